"""The vote over clusters of answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from smoothguard_guardrail.errors import AdapterError, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterScore:
    """What the vote saw in one cluster.

    Example:
        >>> ClusterScore(label=0, share=0.6, benign=0.5, score=0.7).share
        0.6
    """

    label: int
    share: float
    """Members over all answers."""
    benign: float
    """Mean benign score of the members, in [-1, 1]."""
    score: float
    """What was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """Which cluster won, and the scores that were compared, by label.

    Example:
        >>> WeightedVoter(0.2)([0, 0, 1], [1.0, 1.0, -1.0]).winner
        0
    """

    winner: int
    scores: tuple[ClusterScore, ...]


@dataclass(frozen=True, slots=True)
class WeightedVoter:
    """Elects the cluster with the greatest share plus weighted mean benign score.

    The score of a cluster is `share + benign_weight * mean benign`. The benign term is an extension of the published
    method, whose code votes by size alone (`benign_weight` 0). Its influence is bounded: benign means lie in
    [-1, 1], so a cluster with share s scores at least s - w, any other at most 1 - s + w, and a share above 1/2 + w
    always wins. Ties go to the larger share, then to the more benign, then to the lower label; so the result does not
    depend on the order of the answers beyond what the labels do.

    Args:
        benign_weight: The weight w, in [0, 0.5).

    Raises:
        ConfigurationError: If the weight is out of range.

    Example:
        >>> WeightedVoter(0.4)([0, 0, 0, 1, 1], [-1, -1, -1, 1, 1]).winner
        1
    """

    benign_weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.benign_weight < 0.5:
            raise ConfigurationError(f"benign_weight must lie in [0, 0.5), not {self.benign_weight}")

    def __call__(self, labels: Sequence[int], benign: Sequence[float]) -> Vote:
        """Return the vote.

        Raises:
            AdapterError: If there are no labels, or not one benign score for each.
        """
        if not labels or len(labels) != len(benign):
            raise AdapterError(f"a vote needs one benign score per label, not {len(benign)} for {len(labels)}")
        members: dict[int, list[float]] = defaultdict(list)
        for label, score in zip(labels, benign, strict=True):
            members[int(label)].append(float(score))
        scores = tuple(self._score(label, members[label], len(labels)) for label in sorted(members))
        best = max(scores, key=lambda cluster: (cluster.score, cluster.share, cluster.benign, -cluster.label))
        return Vote(winner=best.label, scores=scores)

    def _score(self, label: int, benign: list[float], total: int) -> ClusterScore:
        share = len(benign) / total
        mean = math.fsum(benign) / len(benign)
        score = round(share + self.benign_weight * mean, 12)
        return ClusterScore(label=label, share=share, benign=mean, score=score)
