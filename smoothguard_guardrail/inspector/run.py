"""One guarded call, recorded while it happens: the copies that the model saw, every answer as it comes, the vote."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from smoothguard_guardrail._langchain.sample_calls import SampleCaller
from smoothguard_guardrail._langchain.sample_runs import SampleRuns
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.effects import CallModel, Outcome, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.errors import AbstainedError, ConfigurationError
from smoothguard_guardrail.evaluation.replay import cached_components, vote_on
from smoothguard_guardrail.inspector.background import StoppedError, in_background
from smoothguard_guardrail.inspector.medium_view import MediumView, copy_view, original_view
from smoothguard_guardrail.media import DecodedMedium, prepare
from smoothguard_guardrail.voting import answer_text

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable, RunnableConfig

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.result import GuardResult

T = TypeVar("T")

_REPLAYED = {"num_samples", "early_stop", "vote"}
"""Settings that change the vote and not what the model is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedRun:
    """A guarded call, finished or not."""

    question: str
    config: SmoothGuardConfig
    originals: tuple[MediumView, ...] = ()
    copies: tuple[tuple[MediumView, ...], ...] = ()
    """What each sample saw, in order."""
    outcomes: tuple[Outcome | None, ...] = ()
    """The answer or the failure of each sample; None: it is still awaited."""
    num_bytes: int | None = 0
    """Encoded bytes of all copies; None where the model takes tensors, which are not encoded."""
    result: GuardResult | None = None
    """None until the end."""
    stopped: bool = False
    """Whether it was stopped before the end: no more answers come."""

    @property
    def texts(self) -> tuple[str | None, ...]:
        """The answer of each sample, as voted on; None where it failed or is still awaited."""
        return tuple(answer_text(each) if isinstance(each, AIMessage) else None for each in self.outcomes)


def record(
    model: Runnable[Any, Any],
    messages: Sequence[BaseMessage],
    config: SmoothGuardConfig,
    *,
    components: GuardComponents | None = None,
    stop: threading.Event | None = None,
) -> Iterator[GuardedRun]:
    """Guard a request, and yield the run whenever something new is known about it; the last one has the result.

    Once `stop` is set, or the caller stops iterating, no further call starts, and no more runs are yielded; calls under
    way cannot be taken back.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        messages: The request.
        config: The guard's configuration; an abstention is recorded, not raised.
        components: Parts of the user's own.
        stop: Set by anyone who wants the run to end.

    Raises:
        MediaError: If a medium cannot be guarded.
        QuorumError: If too few samples answered.
        AdapterError: If one of the components broke its protocol.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> from smoothguard_guardrail import SmoothGuardConfig
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> *_, last = record(ScriptedChatModel(script=["Hello."]), [HumanMessage("Hi!")], SmoothGuardConfig())
        >>> last.result.verdict
        'skipped'
    """
    config = config.override(record_samples=True)
    stop = stop or threading.Event()
    return in_background(lambda report: _Recorder(model, messages, config, components, report, stop).work(), stop)


def replay(run: GuardedRun, config: SmoothGuardConfig) -> GuardResult:
    """Return what the guard would decide with another vote on the answers of a finished run: no model is asked.

    Raises:
        ConfigurationError: The settings change what the model is asked, or need more answers: a new run is needed.
        QuorumError: Too few samples answered.
    """
    asked, wanted = (each.model_dump(exclude=_REPLAYED | {"record_samples"}) for each in (run.config, config))
    if changed := [name for name in asked if asked[name] != wanted[name]]:
        raise ConfigurationError(f"changed what the model is asked: {', '.join(changed)}")
    outcomes = [outcome for outcome in run.outcomes if outcome is not None]
    guard = Guard(config.override(record_samples=True), components=cached_components(config))
    media, seed = (run.result.media, run.result.seed) if run.result else ((), None)
    try:
        return vote_on(guard, outcomes, media=media, seed=seed)
    except AbstainedError as raised:
        return raised.result


class _Recorder:
    """Runs the guard's flow, and reports the run at every change."""

    def __init__(
        self,
        model: Runnable[Any, Any],
        messages: Sequence[BaseMessage],
        config: SmoothGuardConfig,
        components: GuardComponents | None,
        report: Callable[[GuardedRun], None],
        stop: threading.Event,
    ) -> None:
        self._model_info = ModelInfo.find(model)
        self._guard = Guard(config, components=components, model_info=self._model_info)
        self._caller = SampleCaller(model, max_concurrency=config.max_concurrency)
        self._messages = messages
        self._lock = threading.Lock()
        self._media: tuple[DecodedMedium, ...] = ()
        self._run = GuardedRun(question=_question(messages), config=config)
        self._report = report
        self._stop = stop

    def work(self) -> None:
        """Guard the request."""
        self._look_at_originals()
        try:
            result = drive(self._guard.flow(self._messages), self._call)
        except AbstainedError as raised:
            result = raised.result
        self._change(result=result)

    def _look_at_originals(self) -> None:
        config = self._guard.config
        sizing = ModelInput(config=config, model_info=self._model_info)
        self._media = prepare(self._messages, config.media, sizing).media
        self._change(originals=tuple(map(original_view, self._media)))

    def _call(self, effect: CallModel) -> list[Outcome]:
        seen = [prepare(request, self._guard.config.media).media for request in effect.requests]
        views = tuple(self._views(each) for each in seen)
        sizes = [medium.record.num_bytes for each in seen for medium in each]
        before = self._run.num_bytes
        self._change(
            copies=(*self._run.copies, *views),
            outcomes=(*self._run.outcomes, *[None] * len(views)),
            num_bytes=None if before is None or None in sizes else before + sum(size or 0 for size in sizes),
        )
        return self._caller.call(effect, _WatchedRuns(self))

    def _views(self, seen: Sequence[DecodedMedium]) -> tuple[MediumView, ...]:
        pairs = zip(seen, self._media if len(seen) == len(self._media) else [None] * len(seen), strict=True)
        return tuple(copy_view(copy, original) for copy, original in pairs)

    def check(self) -> None:
        """Raise if no call may start any more.

        Raises:
            StoppedError: The run was stopped.
        """
        if self._stop.is_set():
            raise StoppedError

    def arrived(self, index: int, outcome: Outcome) -> None:
        """Note the outcome of a sample; called from the threads that ask."""
        with self._lock:
            outcomes = list(self._run.outcomes)
            outcomes[index] = outcome
            self._change(outcomes=tuple(outcomes))

    def _change(self, **changes: Any) -> None:
        self._run = replace(self._run, **changes)
        self._report(self._run)


class _WatchedRuns(SampleRuns):
    """Tells the recorder about every outcome, with its text: whoever inspects a guard may see what it withholds."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__(None, traced=False)
        self._recorder = recorder

    def call(self, index: int, function: Callable[[RunnableConfig], T]) -> T:
        """Call a function with a sample's configuration, unless the run was stopped."""
        self._recorder.check()
        return super().call(index, function)

    def report(self, index: int, outcome: Any) -> None:
        """Pass an outcome on."""
        self._recorder.arrived(index, outcome)


def _question(messages: Sequence[BaseMessage]) -> str:
    return "\n".join(str(message.text) for message in messages)
