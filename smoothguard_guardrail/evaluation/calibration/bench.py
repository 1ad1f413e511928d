"""Measures candidates on the user's rows: answers are recorded per perturbation, votes replayed per voting rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arms import with_media
from smoothguard_guardrail.evaluation.attacked_media import attack_items, control_items, perturbation
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.cache import content_key
from smoothguard_guardrail.evaluation.calibration.results import (
    ADAPTIVE,
    ATTACKED,
    ATTACKS,
    CONTROL,
    GIVEN,
    HARMLESS,
    UNATTACKED,
    Measured,
    Outcomes,
    Unguarded,
    describe_noise,
)
from smoothguard_guardrail.evaluation.calibration.rows import Match, Rows, is_right, succeeded
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.replay import CopyAnswers, cached_components, replay
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.evaluation.statistics import Rate, mcnemar

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
    from smoothguard_guardrail.evaluation.identity import ModelIdentity


Progress = Callable[[str], None]


class Sweep(Record):
    """Values to try, in every combination."""

    sigma: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    """Noise on images."""
    max_shift: tuple[int, ...] = (6,)
    low_pass: tuple[float, ...] = (1.0,)
    num_samples: tuple[int, ...] = (5, 8)
    refusal_share: tuple[float, ...] = (0.35,)
    snr_db: tuple[float, ...] | None = None
    """Noise on audio, as signal-to-noise ratios; None: the base's noise."""

    def configs(self, base: SmoothGuardConfig) -> list[list[SmoothGuardConfig]]:
        """Return the candidates, grouped by perturbation.

        Raises:
            ConfigurationError: A combination is invalid.
        """
        return [
            [
                base.override(
                    sigma=sigma,
                    image={"max_shift": shift, "low_pass": low_pass},
                    audio={} if snr_db is None else {"snr_db": snr_db, "sigma": None},
                    num_samples=samples,
                    vote={"refusal_share": share},
                )
                for samples, share in product(self.num_samples, self.refusal_share)
            ]
            for sigma, shift, low_pass, snr_db in product(
                self.sigma, self.max_shift, self.low_pass, self.snr_db or (None,)
            )
        ]


class Bench:
    """Measures candidates of one model.

    Args:
        store: Asks and stores answers.
        folder: Stores attacked media.
        identity: Of the model.
        attack: How to attack rows; None: they are not attacked.
        match: How a right answer matches.
        embeddings: Embeds answers, each once.
        progress: Called with a description of each step.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        folder: Path,
        identity: ModelIdentity,
        attack: AttackSettings | None,
        match: Match = "equal",
        embeddings: CachedEmbeddings | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        self._store = store
        self._folder = folder
        self._identity = identity
        self._attack = attack
        self._match: Match = match
        self._embeddings = embeddings or CachedEmbeddings()
        self._progress = progress
        self._found: dict[str, Sequence[Item]] = {}

    def unguarded(self, rows: Rows, config: SmoothGuardConfig) -> Unguarded:
        """Measure the model without a guard; the configuration says which media are allowed."""
        outcomes: dict[str, Outcomes] = {}
        for arm, items in self._shared_arms(rows):
            self._progress(f"{arm}: {len(items)} rows without the guard")
            outcomes[arm] = self._outcomes(arm, items, self._store.clean(items, config))
        return Unguarded(rates={arm: Rate.of(rows.values()) for arm, rows in outcomes.items()}, outcomes=outcomes)

    def measure(self, configs: Sequence[SmoothGuardConfig], rows: Rows, alone: Unguarded) -> list[Measured]:
        """Measure candidates that share a perturbation."""
        first = configs[0]
        num_copies = max(config.num_samples for config in configs)
        arms, copies = self._arms(rows, first), {}
        for arm, items in arms.items():
            self._progress(f"{arm}: {len(items)} rows, {num_copies} copies each, {describe_noise(first, rows.kinds)}")
            copies[arm] = self._store.copies(items, first, num_copies)
        return [self._voted(config, arms, copies, alone) for config in configs]

    def suspicions(self, config: SmoothGuardConfig, rows: Rows) -> dict[str, list[float]]:
        """Return the suspicion of every harmless and every attacked row that was answered, by arm.

        Args:
            config: With `include_clean`.
            rows: What to ask; what was asked before is not asked again.
        """
        components, found = cached_components(config, embedder=self._embeddings), {}
        for arm, items in self._arms(rows, config).items():
            if arm == HARMLESS or arm in ATTACKS:
                self._progress(f"{arm}: suspicion of {len(items)} rows, {describe_noise(config, rows.kinds)}")
                voted = replay(config, self._store.copies(items, config, config.num_samples), components=components)
                found[arm] = [vote.suspicion for vote in voted if vote.suspicion is not None]
        return found

    def _arms(self, rows: Rows, config: SmoothGuardConfig) -> dict[str, Sequence[Item]]:
        arms = dict(self._shared_arms(rows))
        if adaptive := self._attacked(rows, config):
            arms[ADAPTIVE] = adaptive
        return arms

    def _voted(
        self,
        config: SmoothGuardConfig,
        arms: dict[str, Sequence[Item]],
        copies: dict[str, list[CopyAnswers]],
        alone: Unguarded,
    ) -> Measured:
        components = cached_components(config, embedder=self._embeddings)
        voted = {arm: replay(config, records, components=components) for arm, records in copies.items()}
        outcomes = {
            arm: self._outcomes(
                arm, items, {vote.item_id: None if vote.verdict == "failed" else vote.text for vote in voted[arm]}
            )
            for arm, items in arms.items()
        }
        calls = [vote.num_calls for vote in voted[HARMLESS]]
        return Measured(
            config=config,
            rates={arm: Rate.of(rows.values()) for arm, rows in outcomes.items()},
            outcomes=outcomes,
            mean_calls=sum(calls) / len(calls),
            paired=mcnemar(alone.outcomes[HARMLESS], outcomes[HARMLESS]),
        )

    def _outcomes(self, arm: str, items: Sequence[Item], texts: dict[str, str | None]) -> Outcomes:
        outcomes: Outcomes = {}
        for item in items:
            text = texts[item.id]
            if text is None:
                outcomes[item.id] = None
            elif arm == HARMLESS:
                outcomes[item.id] = is_right(item, text, match=self._match)
            else:
                outcomes[item.id] = succeeded(item, text)
        return outcomes

    def _shared_arms(self, rows: Rows) -> Iterator[tuple[str, Sequence[Item]]]:
        """Yield the arms that all candidates share."""
        yield HARMLESS, rows.harmless
        if rows.attack:
            yield UNATTACKED, rows.attack
        if rows.attack and self._attack is not None:
            yield CONTROL, control_items(self._store.model, rows.attack, self._attack, self._folder)
        if rows.given:
            yield GIVEN, rows.given
        if attacked := self._attacked(rows, None):
            yield ATTACKED, attacked

    def _attacked(self, rows: Rows, config: SmoothGuardConfig | None) -> Sequence[Item]:
        if self._attack is None or not rows.attack:
            return ()
        through = "the bare model" if config is None else describe_noise(config, rows.kinds)
        noise = config and {kind: perturbation(config, kind) for kind in rows.kinds}
        key = content_key(noise=noise, rows=[item.id for item in rows.attack])
        if key not in self._found:
            self._progress(f"attacking {len(rows.attack)} rows through {through}")
            files = attack_items(
                self._store.model,
                rows.attack,
                self._attack.model_copy(update={"through": config}),
                folder=self._folder,
                mapper=self._store.mapper,
                identity=self._identity,
                shares_folder=True,
            )
            self._found[key] = with_media(rows.attack, files)
        return self._found[key]
