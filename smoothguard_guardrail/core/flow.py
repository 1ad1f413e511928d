"""The algorithm, written once: a generator that asks for the effects of `core.effects` and returns a `GuardResult`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_classes import AnswerClass
from smoothguard_guardrail.core.answer_vote import AnswerVote
from smoothguard_guardrail.core.certify import Certifier
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.effects import CallModel, Compute, Effects, Request
from smoothguard_guardrail.core.guard_settings import GuardSettings
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.errors import AbstainedError, QuorumError
from smoothguard_guardrail.media import PreparedRequest, SearchedRequest, decode_media, search
from smoothguard_guardrail.perturbations import draw_seed
from smoothguard_guardrail.result import GuardResult, Medium, PerturbedRequest, Sample
from smoothguard_guardrail.voting import StoppingRule, answer_text

T = TypeVar("T")
Flow = Effects[GuardResult]


class Guard:
    """Perturbs, asks and votes: everything about a guard that does not depend on its host.

    Args:
        config: The configuration.
        components: Parts of the user's own.
        model_info: What the model reports about itself.
    """

    def __init__(
        self,
        config: SmoothGuardConfig,
        *,
        components: GuardComponents | None = None,
        model_info: ModelInfo | None = None,
    ) -> None:
        components = GuardComponents() if components is None else components
        self.config = config
        self.settings: GuardSettings = GuardSettings.of(config, components)
        self._components = components.complete(config)
        self._model_info = ModelInfo() if model_info is None else model_info
        self._rule = StoppingRule.of(config, self._components.voter)

    def flow(self, messages: Sequence[BaseMessage]) -> Flow:
        """Guard one request.

        Raises:
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If one of the user's components broke its protocol.
        """
        clock = _Clock()
        prepared = yield from self._prepare(messages, clock)
        if not prepared.media:
            return (yield from self._unguarded(prepared, clock))
        seed = self._seed()
        perturber = yield from self._perturber(prepared, self._model_info, seed, clock)
        return (
            yield from self.vote(
                perturber.render, media=perturber.records, max_wave=perturber.max_wave, seed=seed, clock=clock
            )
        )

    def perturb(self, messages: Sequence[BaseMessage]) -> Effects[PerturbedRequest]:
        """Make one noisy copy of a request, in the blocks' own shapes, for who asks a model without a vote.

        Raises:
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            AdapterError: If one of the user's perturbers broke its protocol.
        """
        clock = _Clock()
        prepared = yield from self._prepare(messages, clock)
        if not prepared.media:
            return PerturbedRequest(messages=prepared.unchanged(), media=prepared.records)
        encoded = replace(self._model_info, accepts_tensors=False)
        perturber = yield from self._perturber(prepared, encoded, self._seed(), clock)
        # The first sample may be the clean one; the second never is.
        (request,) = yield Compute(function=lambda: perturber.render(1, 1))
        return PerturbedRequest(messages=request, media=perturber.records())

    def _prepare(self, messages: Sequence[BaseMessage], clock: _Clock) -> Effects[PreparedRequest]:
        media = self.config.media
        sizing = ModelInput(config=self.config, model_info=self._model_info)
        searched: SearchedRequest = yield Compute(function=clock.timed("scan", lambda: search(messages, media.limits)))
        prepared: PreparedRequest = yield Compute(
            function=clock.timed("scan", lambda: decode_media(searched, media, sizing)),
            waits=searched.may_take_long(media),
        )
        return prepared

    def _perturber(
        self, prepared: PreparedRequest, model_info: ModelInfo, seed: int, clock: _Clock
    ) -> Effects[RequestPerturber]:
        make = partial(
            RequestPerturber,
            prepared,
            config=self.config,
            model_info=model_info,
            components=self._components,
            seed=seed,
        )
        perturber: RequestPerturber = yield Compute(function=clock.timed("perturb", make))
        return perturber

    def _seed(self) -> int:
        return draw_seed() if self.config.seed is None else self.config.seed

    def certifier(self, messages: Sequence[BaseMessage], by: AnswerClass) -> Certifier:
        """Return what certifies answers to a request."""
        return Certifier(self.config, self._components, self._model_info, messages=messages, by=by)

    def vote(
        self,
        render: Callable[[int, int], Sequence[Request]],
        *,
        media: Callable[[], tuple[Medium, ...]] = tuple,
        max_wave: int | None = None,
        seed: int | None = None,
        clock: _Clock | None = None,
    ) -> Flow:
        """Ask and vote, wave by wave: what `flow` does once there is a perturber.

        Args:
            render: Makes the requests of samples from the index of the first and their number.
            media: Records of the media, read when all is asked.
            max_wave: Most samples to ask at once; None: as many as the stopping rule says.
            seed: Of the noise, for the record.
            clock: Goes on; None: starts now.

        Raises:
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If one of the user's components broke its protocol.
        """
        clock = clock or _Clock()
        votes = AnswerVote(self.config, self._components)
        wave = self._rule.first_wave()
        while wave:
            first, wave = votes.num_calls, min(wave, max_wave or wave)
            requests = yield Compute(function=clock.timed("perturb", partial(render, first, wave)))
            with clock.stage("model"):
                outcomes = yield CallModel(requests=requests, first_index=first)
            del requests  # before the next ones are made: they may be large
            votes.add(outcomes)
            yield Compute(function=clock.timed("vote", votes.count))
            wave = self._next_wave(votes)
        return self._conclude(votes, media, seed, clock)

    def _next_wave(self, votes: AnswerVote) -> int:
        """Return how many samples to ask next; 0 ends the vote."""
        pending = self.config.num_samples - votes.num_calls
        if len(votes.answers) + pending < self._required(self.config.num_samples):
            return 0  # the quorum is out of reach: more calls would only cost
        return self._rule.next_wave(votes.keys, votes.stances, votes.labels, num_failed=len(votes.failures))

    def _required(self, num_asked: int) -> int:
        return self.config.vote.min_successes or num_asked // 2 + 1

    def _conclude(
        self, votes: AnswerVote, media: Callable[[], tuple[Medium, ...]], seed: int | None, clock: _Clock
    ) -> GuardResult:
        successes, required = len(votes.answers), self._required(votes.num_calls)
        if successes < required:
            raise QuorumError(votes.failures, successes=successes, required=required) from votes.failures[0]
        abstained, refused = votes.abstains, votes.winning_stance == "refuses"
        withheld = abstained and not refused and self.config.vote.on_abstain == "refuse"
        result = self._result(
            answer=_refusal(self.config.vote.refusal_text, votes.winner) if withheld else votes.winner,
            verdict="abstained" if abstained else "passed",
            action="refused" if refused or withheld else "answered",
            reason=votes.reason,
            withheld=withheld,
            agreement=votes.agreement,
            suspicion=votes.suspicion,
            suspicious=votes.suspicious,
            clean_overruled=votes.clean_overruled,
            clusters=votes.clusters,
            winner=votes.winning_label,
            samples=votes.samples,
            media=media(),
            sigma=self.config.sigma,
            noise_space=self.config.noise_space,
            seed=seed,
            usage=votes.usage,
            timings=clock.read(),
            num_calls=votes.num_calls,
        )
        if abstained and self.config.vote.on_abstain == "raise":
            raise AbstainedError(result)
        return result

    def _unguarded(self, prepared: PreparedRequest, clock: _Clock) -> Flow:
        """Ask once: the request contains nothing to perturb."""
        with clock.stage("model"):
            outcomes = yield CallModel(requests=[prepared.unchanged()], first_index=0)
        answer = outcomes[0]
        if isinstance(answer, Exception):
            raise answer
        return self._result(
            answer=answer,
            verdict="skipped",
            action="skipped",
            reason="no_media",
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

    def _result(self, **figures: Any) -> GuardResult:
        """Return a result that names this guard's settings."""
        settings = self.settings
        return GuardResult(
            settings_hash=settings.settings_hash, components=settings.components, policy=settings.policy, **figures
        )


def _refusal(text: str, refused: AIMessage) -> AIMessage:
    """Return a refusal that keeps the model's name, which token counters use."""
    kept = {
        name: value for name, value in refused.response_metadata.items() if name in ("model_name", "model_provider")
    }
    return AIMessage(text, response_metadata=kept, name=refused.name)


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
