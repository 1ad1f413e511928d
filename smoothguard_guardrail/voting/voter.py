"""The vote over clusters of answers: `voter=`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smoothguard_guardrail.errors import AdapterError, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What a voter returns: the winning label and the score of every label.

    Example:
        >>> WeightedVoter(0.2)([0, 0, 0, 1], [1.0, 1.0, 1.0, -1.0])
        Vote(winner=0, scores={0: 0.95, 1: 0.05})
    """

    winner: int
    scores: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class WeightedVoter:
    """Elects the cluster with the highest score: its share plus its weighted mean benign score.

    The score of a cluster is `share + benign_weight * mean benign`. The benign term extends the published method,
    whose code votes by size only (`benign_weight` 0). Its influence is bounded: benign means lie in [-1, 1], so a
    cluster with share s scores at least s - w and any other at most 1 - s + w. A share above 1/2 + w always wins.
    Ties go to the larger share, then to the more benign cluster, then to the lower label.

    Args:
        benign_weight: The weight w, in [0, 0.5).

    Raises:
        ConfigurationError: If the weight is out of range.

    Example:
        >>> WeightedVoter(0.4)([0, 0, 0, 1, 1], [-1, -1, -1, 1, 1]).winner
        1

    Source: arXiv 2510.26830 for the vote by size.
    """

    benign_weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.benign_weight < 0.5:
            raise ConfigurationError(f"benign_weight must be in [0, 0.5), got {self.benign_weight}")

    def __call__(self, labels: Sequence[int], benign: Sequence[float]) -> Vote:
        """Return the vote over answers with these labels and benign scores.

        Raises:
            AdapterError: If there are no labels, or not one benign score for each.
        """
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
