"""The vote over groups of answers: `voter=`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothguard_guardrail._internal.shares import at_least
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.result import Stance


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What a voter returns: the winning label, the score of every label, and whether another label does as well.

    Example:
        >>> StanceVoter()([0, 0, 0, 1], ["answers"] * 4)
        Vote(winner=0, scores={0: 0.75, 1: 0.25}, tied=False)
    """

    winner: int
    scores: Mapping[int, float]
    tied: bool = False


@dataclass(frozen=True, slots=True)
class StanceVoter:
    """Elects the largest group, but refusals already win with a smaller share, and unsure answers only with a majority.

    With n answers, `refusals_needed(n)` refusals win, whatever the others say. Fewer count like any other answer. The
    preference is for refusing over answering alone: it never chooses between two ordinary answers, and where no answer
    refuses the vote is a plain one. Answers that are unsure win only if they are more than half of all.

    The score of a group is its share of the answers; 1 is added for refusals that are enough, and unsure answers
    without a majority score 0. Ties go to refusals, then to the lower label, and are reported.

    Args:
        refusal_share: Share of the answers at which refusals win, in (0, 1]; above 1/2 it gives refusals no advantage.

    Raises:
        ConfigurationError: If the share is out of range.

    Example:
        >>> stances = ["answers"] * 5 + ["refuses"] * 3
        >>> StanceVoter(0.35)([0] * 5 + [1] * 3, stances).winner, StanceVoter(0.5)([0] * 5 + [1] * 3, stances).winner
        (1, 0)
    """

    refusal_share: float = 0.35

    def __post_init__(self) -> None:
        if not 0 < self.refusal_share <= 1:
            raise ConfigurationError(f"refusal_share must be in (0, 1], got {self.refusal_share}")

    def refusals_needed(self, num_answers: int) -> int:
        """Return how many refusals among this number of answers win whatever the others say.

        Example:
            >>> [StanceVoter(0.35).refusals_needed(number) for number in (1, 5, 8)]
            [1, 2, 3]
        """
        return at_least(self.refusal_share, num_answers)

    def __call__(self, labels: Sequence[int], stances: Sequence[Stance], benign: Sequence[float] = ()) -> Vote:
        """Return the vote over answers with these labels and stances.

        Raises:
            AdapterError: If there are no labels, or not one stance for each.
        """
        if not labels or len(labels) != len(stances):
            raise AdapterError(f"a vote needs one stance per label, got {len(stances)} for {len(labels)} labels")
        sizes, stance_of = Counter(labels), dict(zip(labels, stances, strict=True))
        scores = {label: self._score(stance_of[label], sizes[label], len(labels)) for label in sorted(sizes)}
        winner = max(scores, key=lambda label: (scores[label], stance_of[label] == "refuses", -label))
        tied = sum(score == scores[winner] for score in scores.values()) > 1
        return Vote(winner=int(winner), scores=scores, tied=tied)

    def _score(self, stance: Stance, size: int, total: int) -> float:
        share = round(size / total, 12)
        if stance == "refuses" and size >= self.refusals_needed(total):
            return 1 + share
        if stance == "unsure" and 2 * size <= total:
            return 0.0
        return share


@dataclass(frozen=True, slots=True)
class SentimentVoter:
    """Elects the cluster with the highest score: its share plus its weighted mean benign score, as the paper describes.

    The score of a cluster is `share + benign_weight * mean benign`. The benign term is our reading of the paper's
    sentiment-aware voting; its code votes by size only (`benign_weight` 0). Its influence is bounded: benign means lie
    in [-1, 1], so a share above 1/2 + w always wins. Ties go to the larger share, then to the more benign cluster,
    then to the lower label.

    Args:
        benign_weight: The weight w, in [0, 0.5).

    Raises:
        ConfigurationError: If the weight is out of range.

    Example:
        >>> SentimentVoter(0.4)([0, 0, 0, 1, 1], ["answers"] * 5, [-1, -1, -1, 1, 1]).winner
        1

    Source: arXiv 2510.26830, abstract and figure 1.
    """

    benign_weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.benign_weight < 0.5:
            raise ConfigurationError(f"benign_weight must be in [0, 0.5), got {self.benign_weight}")

    def __call__(self, labels: Sequence[int], stances: Sequence[Stance], benign: Sequence[float] = ()) -> Vote:
        """Return the vote over answers with these labels and benign scores; no scores count as 0, stances not at all.

        Raises:
            AdapterError: If there are no labels, or not one benign score for each.
        """
        benign = benign or [0.0] * len(labels)
        if not labels or len(labels) != len(benign):
            raise AdapterError(f"a vote needs one benign score per label, got {len(benign)} for {len(labels)} labels")
        members: dict[int, list[float]] = defaultdict(list)
        for label, score in zip(labels, benign, strict=True):
            members[int(label)].append(float(score))
        means = {label: math.fsum(values) / len(values) for label, values in members.items()}
        scores = {
            label: round(len(members[label]) / len(labels) + self.benign_weight * means[label], 12)
            for label in sorted(members)
        }
        winner = max(scores, key=lambda label: (scores[label], len(members[label]), means[label], -label))
        return Vote(winner=winner, scores=scores)
