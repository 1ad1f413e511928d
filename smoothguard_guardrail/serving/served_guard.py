"""A guard as the doors of the server ask it, and its answer: here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response, StreamingResponse
from langchain_core.runnables import RunnableConfig

from smoothguard_guardrail._langchain.sample_calls import unwrap
from smoothguard_guardrail.errors import AbstainedError
from smoothguard_guardrail.serving.clients import call_metadata
from smoothguard_guardrail.serving.errors import ABSTAINED, ApiError, UpstreamError, is_model_error
from smoothguard_guardrail.serving.json_text import SafeJSONResponse
from smoothguard_guardrail.serving.model_arguments import model_arguments
from smoothguard_guardrail.serving.public_record import public_record, verdict_headers

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
    from smoothguard_guardrail.result import GuardResult
    from smoothguard_guardrail.serving.model_parameters import ModelParameters
    from smoothguard_guardrail.serving.settings import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedAnswer:
    """The result of a guarded call, and what its client may see of it."""

    result: GuardResult
    record: dict[str, Any]
    headers: dict[str, str]
    """The verdict, for clients that keep no fields of the body."""

    @property
    def is_refusal(self) -> bool:
        """Whether the guard's refusal replaces the model's answer."""
        return self.result.verdict == "abstained" and self.result.action == "refused"

    def as_json(self, body: Mapping[str, Any]) -> Response:
        """Return the HTTP response with a door's body."""
        return SafeJSONResponse(body, headers=self.headers)

    def as_stream(self, events: Iterable[str]) -> Response:
        """Return the HTTP response with a door's server-sent events."""
        headers = self.headers | {"cache-control": "no-store"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedGuard:
    """A guard of the server, which every door asks in the same way."""

    name: str
    """What clients call it."""
    guard: SmoothGuardRunnable
    settings: ServerSettings
    callbacks: Sequence[BaseCallbackHandler]
    """The server's; clients cannot add any."""

    async def answer(
        self,
        messages: Sequence[BaseMessage],
        parameters: ModelParameters | None = None,
        *,
        ignored: Sequence[str] = (),
        route: str,
    ) -> GuardedAnswer:
        """Ask the guard.

        Args:
            messages: The request.
            parameters: What the client asks of the model.
            ignored: Parameters that the server does not know; the record names them, with those the model does not
                know.
            route: Names the run in traces, such as `/v1/chat/completions`.

        Raises:
            ApiError: The model does not support what the client asks for, or the guard abstained and is configured to
                raise then.
            UpstreamError: The model failed on a request without a vote.
        """
        model = unwrap(self.guard.model).model
        arguments, unknown = ({}, []) if parameters is None else model_arguments(parameters, model)
        metadata = call_metadata(self.name)
        config: RunnableConfig = {"callbacks": list(self.callbacks), "run_name": route, "metadata": metadata}
        try:
            result = await self.guard.aguard(list(messages), config, **arguments)
        except AbstainedError as error:
            record = public_record(error.result.to_metadata(), self.settings.record)
            raise ApiError(422, "abstained", ABSTAINED, record=record, headers=verdict_headers(record)) from error
        except Exception as error:
            if is_model_error(error):
                raise UpstreamError from error
            raise
        record = public_record(result.to_metadata(), self.settings.record)
        if names := sorted({*ignored, *unknown}):
            record["ignored_parameters"] = names
        return GuardedAnswer(result=result, record=record, headers=verdict_headers(record))


def find_guard(guards: Mapping[str, ServedGuard], name: str) -> ServedGuard:
    """Return the guard that clients call by a name.

    Raises:
        ApiError: There is none.
    """
    if name not in guards:
        raise ApiError(
            404,
            "model_not_found",
            f"the model must be one of: {', '.join(guards) or '(none is served)'}",
            param="model",
        )
    return guards[name]
