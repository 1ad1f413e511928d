"""From answers to the one that is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.voting.clusterer import cluster_answers, cosine_similarities, unit_rows
from smoothguard_guardrail.voting.voter import Vote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Clusterer, Voter


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectedCluster:
    """One cluster of an election, in the terms of `result.Cluster`."""

    label: int
    size: int
    share: float
    benign: float
    score: float
    representative: int
    """Index among the answers of the member nearest to the centroid, by cosine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """The outcome of a vote over answers."""

    labels: tuple[int, ...]
    """Cluster of each answer; 0 is the largest."""
    clusters: tuple[ElectedCluster, ...]
    """By label."""
    winner: int
    """Label of the winning cluster."""
    similarities: tuple[float, ...]
    """Cosine similarity of each answer to the winner's representative."""

    @property
    def agreement(self) -> float:
        """Share of the answers in the winning cluster."""
        return self.clusters[self.winner].share

    @property
    def representative(self) -> int:
        """Index of the answer that is given."""
        return self.clusters[self.winner].representative


def elect(
    keys: Sequence[str],
    texts: Sequence[str],
    embeddings: NDArray[np.float64] | None,
    *,
    clusterer: Clusterer,
    benign: Sequence[float],
    voter: Voter,
) -> Election:
    r"""Cluster the answers, vote, and name who speaks for each cluster.

    Args:
        keys: Canonical forms from `answer_key`, at least one.
        texts: Texts from `answer_text`.
        embeddings: Float64 (num_answers, dimensions); may be None when all keys are equal.
        clusterer: Groups the embeddings (see `cluster_answers` for what holds whatever it says).
        benign: Benign score of each answer, in [-1, 1].
        voter: Elects a cluster.

    Raises:
        AdapterError: If there is no answer, the lengths differ, or clusterer or voter break their protocol.

    Example:
        >>> from smoothguard_guardrail.voting import KMeansClusterer, WeightedVoter
        >>> keys, texts = ["\nyes", "\nno", "\nyes"], ["Yes", "No", "Yes"]
        >>> outcome = elect(
        ...     keys, texts, np.eye(3), clusterer=KMeansClusterer(), benign=[0, 0, 0], voter=WeightedVoter(0.2)
        ... )
        >>> outcome.labels, outcome.winner, outcome.representative
        ((0, 1, 0), 0, 0)
    """
    if not keys or len(benign) != len(keys):
        raise AdapterError(
            f"an election needs answers and one benign score for each, not {len(benign)} for {len(keys)}"
        )
    labels = cluster_answers(keys, texts, embeddings, clusterer)
    rows = np.ones((len(keys), 1)) if embeddings is None else embeddings
    vote = _checked_vote(voter(labels, benign), set(labels))
    scores = {score.label: score for score in vote.scores}
    clusters = []
    for label in range(max(labels) + 1):
        members = [place for place, other in enumerate(labels) if other == label]
        clusters.append(
            ElectedCluster(
                label=label,
                size=len(members),
                share=len(members) / len(labels),
                benign=float(scores[label].benign),
                score=float(scores[label].score),
                representative=_representative(rows, members),
            )
        )
    speaker = clusters[vote.winner].representative
    similarities = cosine_similarities(rows, rows[[speaker]])[:, 0]
    same = np.array([key == keys[speaker] for key in keys])
    return Election(
        labels=tuple(labels),
        clusters=tuple(clusters),
        winner=int(vote.winner),
        similarities=tuple(np.where(same, 1.0, similarities).tolist()),
    )


def _representative(rows: NDArray[np.float64], members: list[int]) -> int:
    units = unit_rows(rows[members])
    nearness = np.round(cosine_similarities(units, units.mean(axis=0, keepdims=True))[:, 0], 9)
    return members[int(nearness.argmax())]


def _checked_vote(vote: object, labels: set[int]) -> Vote:
    if not isinstance(vote, Vote):
        raise AdapterError(f"the voter returned {type(vote).__name__}, not a Vote")
    if vote.winner not in labels or {score.label for score in vote.scores} != labels:
        raise AdapterError(f"the voter elected {vote.winner} and scored other clusters than {sorted(labels)}")
    return vote
