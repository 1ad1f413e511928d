"""`LangfuseHandler`: verdict, agreement and suspicion as scores of the guard's observation (extra `langfuse`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import Line
from smoothguard_guardrail.observability.scores import scores_of

if TYPE_CHECKING:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler


class LangfuseHandler(GuardObserver):
    """Scores the guard's observation in Langfuse: `smoothguard.verdict`, `.agreement`, and `.suspicion` if known.

    Scores are sent in the background by Langfuse's client, so a call never waits for them, and never fails if the
    service is down. Calls that the tracer does not trace get no scores.

    Args:
        tracer: Langfuse's own handler, which traces the calls; pass both to a call.
        client: Langfuse's client; None: its default one.

    Raises:
        MissingDependencyError: If `langfuse` is not installed.

    Example:
        >>> from langfuse.langchain import CallbackHandler
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> guard, tracer = SmoothGuardRunnable(ScriptedChatModel(script=["Hello."])), CallbackHandler()
        >>> guard.invoke("Hi!", {"callbacks": [tracer, LangfuseHandler(tracer)]}).content
        'Hello.'
    """

    def __init__(self, tracer: CallbackHandler, client: Langfuse | None = None) -> None:
        try:
            from langfuse import get_client
        except ImportError as error:
            raise MissingDependencyError("langfuse", "langfuse") from error
        super().__init__()
        self._tracer = tracer
        self._client = get_client() if client is None else client

    def observe(self, line: Line) -> None:
        """Score one guarded call."""
        observation = _observation(self._tracer, line)
        if observation is None:
            return
        for score in scores_of(line):
            common: dict[str, Any] = {
                "name": score.name,
                "trace_id": observation.trace_id,
                "observation_id": observation.id,
                "score_id": f"{line.id}-{score.name}",
                "comment": score.explanation,
            }
            if score.value is None:
                self._client.create_score(value=str(score.label), data_type="CATEGORICAL", **common)
            else:
                self._client.create_score(value=score.value, data_type="NUMERIC", **common)


def _observation(tracer: CallbackHandler, line: Line) -> Any:
    """Return Langfuse's observation of the guard's run, which it keeps, under a private name, until the run ends."""
    return getattr(tracer, "_runs", {}).get(line.run_id)
