"""The algorithm, once: a generator that asks for effects, and a sync and an async driver for it.

The flow holds no I/O. It yields `CallModel` when it needs answers and `Compute` when it has work that would block
an event loop, receives the outcome, and returns a `GuardResult`. Hosts supply only how to call the model. The
shape is that of httpx's `_auth.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Ballot, Judges
from smoothguard_guardrail.core.request_perturber import ModelFacts, RequestPerturber
from smoothguard_guardrail.errors import AbstainedError, QuorumError
from smoothguard_guardrail.media import PreparedRequest, prepare
from smoothguard_guardrail.perturbations import draw_seed
from smoothguard_guardrail.protocols import Perturber
from smoothguard_guardrail.result import GuardResult, Medium, Sample
from smoothguard_guardrail.voting import StoppingRule, answer_text

Request = list[BaseMessage]
Outcome = AIMessage | Exception
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallModel:
    """The flow needs the model's answers to these requests, one outcome each, in order."""

    requests: Sequence[Request]
    first_index: int
    """Index of the first request's sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The flow has blocking work; the outcome is what the function returns."""

    function: Callable[[], Any]


Flow = Generator[CallModel | Compute, Any, GuardResult]


class Guard:
    """Perturbs, asks, votes: everything about one guard that no host needs to know.

    Args:
        config: Every knob.
        judges: The parts that turn answers into a vote.
        facts: What the model tells about itself.
        perturber: Takes the place of the configured perturbation.
    """

    def __init__(
        self,
        config: SmoothGuardConfig,
        *,
        judges: Judges | None = None,
        facts: ModelFacts | None = None,
        perturber: Perturber | None = None,
    ) -> None:
        self.config = config
        self._judges = judges or Judges(config)
        self._facts = facts or ModelFacts()
        self._perturber = perturber
        self._rule = StoppingRule.of(config, self._judges.voter)

    def flow(self, messages: Sequence[BaseMessage]) -> Flow:
        """Guard one request.

        Raises:
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If a user's part broke its protocol.
        """
        config, clock = self.config, _Clock()
        prepared: PreparedRequest = yield Compute(
            function=clock.timed(
                "scan",
                lambda: prepare(
                    messages,
                    on_unsupported=config.on_unsupported,
                    limits=config.limits,
                    remote=config.remote,
                ),
            )
        )
        if not prepared.media:
            return (yield from self._unguarded(prepared, clock))

        seed = draw_seed() if config.seed is None else config.seed
        perturber: RequestPerturber = yield Compute(
            function=clock.timed(
                "perturb",
                lambda: RequestPerturber(
                    prepared, config=config, facts=self._facts, perturber=self._perturber, seed=seed
                ),
            )
        )
        return (yield from self.vote(perturber.render, media=perturber.records, seed=seed, clock=clock))

    def vote(
        self,
        render: Callable[[int, int], Sequence[Request]],
        *,
        media: Callable[[], tuple[Medium, ...]] = tuple,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Flow:
        """Ask and vote, wave by wave: what `flow` does once there is a perturber.

        Args:
            render: Makes the requests of samples from the index of the first and their number.
            media: Records of the media, read when all is asked.
            seed: Of the noise, for the record.
            clock: Goes on; None: starts now.

        Raises:
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If a user's part broke its protocol.
        """
        clock = clock or _Clock()
        ballot = Ballot(self.config, self._judges)
        wave = self._rule.first_wave()
        while wave:
            first = ballot.num_calls
            requests = yield Compute(function=clock.timed("perturb", partial(render, first, wave)))
            with clock.stage("model"):
                outcomes = yield CallModel(requests=requests, first_index=first)
            ballot.add(outcomes)
            yield Compute(function=clock.timed("vote", ballot.count))
            wave = self._next_wave(ballot)
        return self._conclude(ballot, media, seed, clock)

    def _next_wave(self, ballot: Ballot) -> int:
        """Return how many samples to ask next; 0 ends the vote."""
        pending = self.config.num_samples - ballot.num_calls
        if len(ballot.answers) + pending < self._required(self.config.num_samples):
            return 0  # the quorum is out of reach: asking on would only cost
        return self._rule.next_wave(ballot.keys, ballot.labels, ballot.benign, num_failed=len(ballot.failures))

    def _required(self, num_asked: int) -> int:
        return self.config.min_successes or num_asked // 2 + 1

    def _conclude(
        self, ballot: Ballot, media: Callable[[], tuple[Medium, ...]], seed: int | None, clock: _Clock
    ) -> GuardResult:
        successes, required = len(ballot.answers), self._required(ballot.num_calls)
        if successes < required:
            raise QuorumError(ballot.failures, successes=successes, required=required) from ballot.failures[0]
        agreement = ballot.agreement
        abstained = agreement < self.config.min_agreement
        refuse = abstained and self.config.on_abstain == "refuse"
        result = GuardResult(
            answer=_refusal(self.config.refusal_text, ballot.winner) if refuse else ballot.winner,
            verdict="abstained" if abstained else "passed",
            agreement=agreement,
            clean_overruled=ballot.clean_overruled,
            clusters=ballot.clusters,
            winner=ballot.winning_label,
            samples=ballot.samples,
            media=media(),
            sigma=self.config.sigma,
            noise_space=self.config.noise_space,
            seed=seed,
            usage=ballot.usage,
            timings=clock.read(),
            num_calls=ballot.num_calls,
        )
        if abstained and self.config.on_abstain == "raise":
            raise AbstainedError(result)
        return result

    def _unguarded(self, prepared: PreparedRequest, clock: _Clock) -> Flow:
        """Ask once: the request holds nothing to perturb."""
        with clock.stage("model"):
            outcomes = yield CallModel(requests=[prepared.clean()], first_index=0)
        answer = outcomes[0]
        if isinstance(answer, Exception):
            raise answer
        return GuardResult(
            answer=answer,
            verdict="skipped",
            agreement=1.0,
            samples=(
                Sample(
                    index=0,
                    clean=True,
                    usage=answer.usage_metadata,
                    text=answer_text(answer) if self.config.record_samples else None,
                ),
            ),
            media=prepared.records,
            usage=answer.usage_metadata,
            timings=clock.read(),
            num_calls=1,
        )


def _refusal(text: str, refused: AIMessage) -> AIMessage:
    """Return a refusal in the name of the model, by which handlers book its tokens."""
    kept = {
        name: value for name, value in refused.response_metadata.items() if name in ("model_name", "model_provider")
    }
    return AIMessage(text, response_metadata=kept, name=refused.name)


def drive(flow: Flow, call_model: Callable[[CallModel], Sequence[Outcome]]) -> GuardResult:
    """Run a flow to its end in this thread."""
    try:
        effect = next(flow)
        while True:
            try:
                outcome = call_model(effect) if isinstance(effect, CallModel) else effect.function()
            except BaseException as error:  # the flow decides what an error means, KeyboardInterrupt included
                effect = flow.throw(error)
            else:
                effect = flow.send(outcome)
    except StopIteration as stop:
        result: GuardResult = stop.value
        return result


async def adrive(flow: Flow, call_model: Callable[[CallModel], Awaitable[Sequence[Outcome]]]) -> GuardResult:
    """Run a flow to its end, its blocking work off the event loop."""
    try:
        effect = next(flow)
        while True:
            try:
                if isinstance(effect, CallModel):
                    outcome = await call_model(effect)
                else:
                    outcome = await asyncio.to_thread(effect.function)
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(outcome)
    except StopIteration as stop:
        result: GuardResult = stop.value
        return result


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def timed(self, name: str, function: Callable[[], T]) -> Callable[[], T]:
        def run() -> T:
            with self.stage(name):
                return function()

        return run

    def read(self) -> dict[str, float]:
        return self._seconds | {"total": time.perf_counter() - self._start}
