"""When to stop asking the model, and how many calls to make next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.voting.bounds import boundaries, core_always_wins
from smoothguard_guardrail.voting.voter import WeightedVoter

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.protocols import Voter


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingRule:
    """Decides after each wave of calls whether to make another, and how large it is.

    `lossless`: stop when no possible remaining answers and no clustering of them could change the outcome of the full
    vote of `num_samples`: elect another cluster, fall below `min_agreement` or lack answers. It relies only on the
    largest group of equal answers, which no clusterer may split (`bounds.core_always_wins`).

    A float alpha: also stop when the leading cluster is so far ahead that, if answers were independent draws, the full
    vote would elect another one with probability at most alpha over all looks (`bounds.boundaries` states the model
    and the proof). Rivals are assumed to score 1, and no later answer of the leading cluster to score below its least
    benign one so far. A clean copy among the samples counts as one more draw.

    None: make all `num_samples` calls at once. Every rule does so for a voter other than `WeightedVoter`, because both
    bounds are about that voter.

    Args:
        num_samples: Number of calls of the full vote.
        early_stop: The rule.
        benign_weight: Weight of the `WeightedVoter`; None for any other voter.
        min_successes: Fewest answers with which the guard does not fail; None: more than half of the calls.
        min_agreement: Agreement below which the guard abstains.

    Raises:
        ConfigurationError: If a number is out of range.

    Example:
        >>> rule = StoppingRule(num_samples=10, early_stop="lossless", benign_weight=0.0)
        >>> rule.first_wave()
        6
        >>> rule.next_wave(["yes"] * 6, [0] * 6, [0.0] * 6)
        0
        >>> rule.next_wave(["yes"] * 5 + ["no"], [0] * 5 + [1], [0.0] * 6)
        1
    """

    num_samples: int
    early_stop: Literal["lossless"] | float | None
    benign_weight: float | None
    min_successes: int | None = None
    min_agreement: float = 0.0

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ConfigurationError(f"num_samples must be at least 1, got {self.num_samples}")
        if isinstance(self.early_stop, (int, float)) and not 0 < self.early_stop < 0.5:
            raise ConfigurationError(f"early_stop as a probability must be in (0, 0.5), got {self.early_stop}")

    @classmethod
    def of(cls, config: SmoothGuardConfig, voter: Voter) -> Self:
        """Return the rule for a configuration and a voter."""
        return cls(
            num_samples=config.num_samples,
            early_stop=config.early_stop,
            benign_weight=voter.benign_weight if type(voter) is WeightedVoter else None,
            min_successes=config.vote.min_successes,
            min_agreement=config.vote.min_agreement,
        )

    @property
    def asks_all(self) -> bool:
        """Whether all calls are made at once."""
        return self.early_stop is None or self.benign_weight is None

    @property
    def needs_labels(self) -> bool:
        """Whether `next_wave` needs labels besides keys and benign scores."""
        return not self.asks_all and self.early_stop != "lossless"

    def first_wave(self) -> int:
        """Return how many calls to make first: the fewest that can decide if all answers are equal and benign."""
        if self.asks_all:
            return self.num_samples
        return self._fewest(_Seen(core=(), core_others=(), leader=(), count=0, failed=0), benign=1.0)

    def next_wave(
        self, keys: Sequence[str], labels: Sequence[int] | None, benign: Sequence[float], num_failed: int = 0
    ) -> int:
        """Return how many calls to make next: the fewest that can decide, given the answers so far; 0 to stop.

        Args:
            keys: Canonical forms of the answers so far, from `answer_key`.
            labels: Their clusters; may be None unless `needs_labels`.
            benign: Their benign scores.
            num_failed: Number of failed calls.

        Raises:
            ConfigurationError: If labels are needed and missing.
        """
        pending = self.num_samples - len(keys) - num_failed
        if pending <= 0:
            return 0
        if self.asks_all or not keys:
            return pending
        if self.needs_labels and labels is None:
            raise ConfigurationError(
                "this stopping rule needs the labels of the answers, got None: pass the labels of an election"
            )
        seen = self._observe(keys, labels, benign, num_failed)
        if self._decided(seen):
            return 0
        return self._fewest(seen, benign=math.fsum(seen.core) / len(seen.core))

    def _observe(
        self, keys: Sequence[str], labels: Sequence[int] | None, benign: Sequence[float], num_failed: int
    ) -> _Seen:
        core_key = _largest(keys, benign)
        core = tuple(score for key, score in zip(keys, benign, strict=True) if key == core_key)
        others = tuple(score for key, score in zip(keys, benign, strict=True) if key != core_key)
        leader: tuple[float, ...] = core
        if labels is not None:
            winner = WeightedVoter(self.benign_weight or 0.0)(labels, benign).winner
            leader = tuple(score for label, score in zip(labels, benign, strict=True) if label == winner)
        return _Seen(core=core, core_others=others, leader=leader, count=len(keys), failed=num_failed)

    def _fewest(self, seen: _Seen, *, benign: float) -> int:
        pending = self.num_samples - seen.count - seen.failed
        return next((more for more in range(1, pending) if self._decided(seen.plus(more, benign))), pending)

    def _decided(self, seen: _Seen) -> bool:
        return self._lossless(seen) or (self.needs_labels and self._sequential(seen))

    def _lossless(self, seen: _Seen) -> bool:
        pending = self.num_samples - seen.count - seen.failed
        if seen.count < (self.min_successes or self.num_samples // 2 + 1):
            return False
        if len(seen.core) < self.min_agreement * (seen.count + pending):
            return False
        return core_always_wins(
            seen.core, seen.core_others, num_pending=pending, benign_weight=self.benign_weight or 0.0
        )

    def _sequential(self, seen: _Seen) -> bool:
        asked = seen.count + seen.failed
        if not isinstance(self.early_stop, float) or seen.count < (self.min_successes or asked // 2 + 1):
            return False
        # Above this share the leader beats a rival with all other answers and score 1. Rounded up, for the cache.
        decisive = 0.5 + (self.benign_weight or 0.0) * (1 - min(seen.leader)) / 2
        limits = boundaries(
            self.num_samples, math.ceil(decisive * 200 - 1e-9) / 200, self.min_agreement, self.early_stop
        )
        limit = limits[seen.count] if seen.count < len(limits) else None
        return limit is not None and len(seen.leader) >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Benign scores of the largest group of equal answers, of the answers outside it, and of the leading cluster."""

    core: tuple[float, ...]
    core_others: tuple[float, ...]
    leader: tuple[float, ...]
    count: int
    failed: int

    def plus(self, more: int, benign: float) -> _Seen:
        """Return the state after `more` further answers equal to the core."""
        added = (benign,) * more
        return _Seen(
            core=self.core + added,
            core_others=self.core_others,
            leader=self.leader + added,
            count=self.count + more,
            failed=self.failed,
        )


def _largest(keys: Sequence[str], benign: Sequence[float]) -> str:
    """Return the key of the largest group of equal answers; among groups of equal size, the most benign."""
    counts = Counter(keys)
    sums = dict.fromkeys(counts, 0.0)
    for key, score in zip(keys, benign, strict=True):
        sums[key] += score
    return max(counts, key=lambda key: (counts[key], sums[key], key))
