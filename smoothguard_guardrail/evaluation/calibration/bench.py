"""Measures candidates on the user's rows: answers are recorded per perturbation, votes replayed per voting rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arms import with_media
from smoothguard_guardrail.evaluation.attacked_media import AttackSettings, attack_items, control_items
from smoothguard_guardrail.evaluation.calibration.rows import Match, is_right, succeeded
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.replay import CopyAnswers, cached_components, replay
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate, mcnemar

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
    from smoothguard_guardrail.evaluation.identity import ModelIdentity

HARMLESS, UNATTACKED, CONTROL = "harmless", "unattacked", "random signs"
GIVEN, ATTACKED, ADAPTIVE = "given", "attacked", "adaptive"
ARMS = (HARMLESS, UNATTACKED, CONTROL, GIVEN, ATTACKED, ADAPTIVE)
"""Harmless rows; rows to attack, unchanged and under random signs of the attack's size; the user's attacked images; and
images attacked here, on the bare model and through the candidate's own perturbation."""
MIN_ROWS = 20  # of each kind; with fewer, none are held out: half of them would be too few

Outcomes = dict[str, bool | None]
Progress = Callable[[str], None]


class Sweep(Record):
    """Values to try, in every combination."""

    sigma: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    max_shift: tuple[int, ...] = (6,)
    low_pass: tuple[float, ...] = (1.0,)
    num_samples: tuple[int, ...] = (5, 8)
    refusal_share: tuple[float, ...] = (0.35,)

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
                    num_samples=samples,
                    vote={"refusal_share": share},
                )
                for samples, share in product(self.num_samples, self.refusal_share)
            ]
            for sigma, shift, low_pass in product(self.sigma, self.max_shift, self.low_pass)
        ]


class Rows(Record):
    """The user's rows."""

    harmless: tuple[Item, ...]
    attack: tuple[Item, ...] = ()
    """Rows to attack here."""
    given: tuple[Item, ...] = ()
    """Rows whose images are adversarial already."""

    def halves(self) -> tuple[Rows, Rows] | None:
        """Return rows for the choice and rows for the report; None if there are too few of a kind.

        The split depends on the ids, not on the order in the file.
        """
        kinds = {"harmless": self.harmless, "attack": self.attack, "given": self.given}
        if any(0 < len(items) < MIN_ROWS for items in kinds.values()):
            return None
        split = {kind: _halved(items) for kind, items in kinds.items()}
        first, second = (Rows(**{kind: pair[place] for kind, pair in split.items()}) for place in (0, 1))
        return first, second


class Measured(Record):
    """One candidate's results; arms are those of `ARMS` with rows."""

    config: SmoothGuardConfig
    rates: dict[str, Rate]
    """By arm: right answers of `harmless`, successes of the attacker elsewhere."""
    outcomes: dict[str, Outcomes]
    """By arm and row."""
    mean_calls: float
    """Model calls per harmless row."""
    paired: PairedTest
    """Harmless rows right without (first) and with (second) the guard."""

    @property
    def utility_loss(self) -> float:
        """Share of right answers that the guard costs: lost minus gained, over the rows."""
        lost = self.paired.only_first - self.paired.only_second
        return lost / self.paired.num_items if self.paired.num_items else 0.0

    @property
    def loss_bound(self) -> float:
        """Upper end of Wilson's 95 % interval of the share of lost rows."""
        interval = Rate(k=self.paired.only_first, n=self.paired.num_items).interval()
        return interval[1] if interval else 1.0


class Unguarded(Record):
    """Results of the model without a guard."""

    rates: dict[str, Rate]
    outcomes: dict[str, Outcomes] = Field(default_factory=dict)


class Bench:
    """Measures candidates of one model.

    Args:
        store: Asks and stores answers.
        folder: Stores attacked images.
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
        self._found: dict[tuple[str, ...], Sequence[Item]] = {}

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
        arms = dict(self._shared_arms(rows))
        if adaptive := self._attacked(rows, first):
            arms[ADAPTIVE] = adaptive
        copies = {}
        for arm, items in arms.items():
            self._progress(f"{arm}: {len(items)} rows, {num_copies} copies each, {name_of(first)}")
            copies[arm] = self._store.copies(items, first, num_copies)
        return [self._voted(config, arms, copies, alone) for config in configs]

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
        through = "the bare model" if config is None else name_of(config)
        key = (through, *(item.id for item in rows.attack))
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


def name_of(config: SmoothGuardConfig) -> str:
    """Return a perturbation in words."""
    return f"sigma {config.sigma:g}, shift {config.image.max_shift}, low-pass {config.image.low_pass:g}"


def _halved(items: Sequence[Item]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    ordered = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return tuple(ordered[::2]), tuple(ordered[1::2])
