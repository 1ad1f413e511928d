"""From many answers to the one that is returned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.result import Cluster
from smoothguard_guardrail.voting.clusterer import cluster_answers, cosine_similarities, unit_rows
from smoothguard_guardrail.voting.voter import Vote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Clusterer, Voter


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """The result of a vote over answers."""

    labels: tuple[int, ...]
    """Cluster of each answer; 0 is the largest."""
    clusters: tuple[Cluster, ...]
    """By label. A `representative` is an index among the answers: the member nearest to the centroid, by cosine."""
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
        """Index of the elected answer."""
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
    r"""Cluster the answers, vote, and choose a representative of each cluster.

    Args:
        keys: Canonical forms from `answer_key`, at least one.
        texts: Texts from `answer_text`.
        embeddings: Float64 (num_answers, dimensions); may be None when all keys are equal.
        clusterer: Groups the embeddings, within the limits that `cluster_answers` sets.
        benign: Benign score of each answer, in [-1, 1].
        voter: Elects a cluster.

    Raises:
        AdapterError: If there is no answer, the lengths differ, or clusterer or voter break their protocol.

    Example:
        >>> from smoothguard_guardrail.voting import KMeansClusterer, WeightedVoter
        >>> keys, texts = ["\nyes", "\nno", "\nyes"], ["Yes", "No", "Yes"]
        >>> election = elect(
        ...     keys, texts, np.eye(3), clusterer=KMeansClusterer(), benign=[0, 0, 0], voter=WeightedVoter(0.2)
        ... )
        >>> election.labels, election.winner, election.representative
        ((0, 1, 0), 0, 0)
    """
    if not keys or len(benign) != len(keys):
        raise AdapterError(
            f"an election needs at least one answer and one benign score per answer, got {len(keys)} answers and "
            f"{len(benign)} scores"
        )
    labels = cluster_answers(keys, texts, embeddings, clusterer)
    rows = np.ones((len(keys), 1)) if embeddings is None else embeddings
    vote = _checked_vote(voter(labels, benign), set(labels))
    clusters = tuple(_cluster(label, labels, benign, rows, vote) for label in range(max(labels) + 1))
    elected = clusters[vote.winner].representative
    similarities = cosine_similarities(rows, rows[[elected]])[:, 0]
    same = np.array([key == keys[elected] for key in keys])
    return Election(
        labels=tuple(labels),
        clusters=clusters,
        winner=int(vote.winner),
        similarities=tuple(np.where(same, 1.0, similarities).tolist()),
    )


def _cluster(
    label: int, labels: Sequence[int], benign: Sequence[float], rows: NDArray[np.float64], vote: Vote
) -> Cluster:
    members = [index for index, other in enumerate(labels) if other == label]
    return Cluster(
        label=label,
        size=len(members),
        share=len(members) / len(labels),
        benign=math.fsum(benign[index] for index in members) / len(members),
        score=float(vote.scores[label]),
        representative=_representative(rows, members),
    )


def _representative(rows: NDArray[np.float64], members: list[int]) -> int:
    units = unit_rows(rows[members])
    nearness = np.round(cosine_similarities(units, units.mean(axis=0, keepdims=True))[:, 0], 9)
    return members[int(nearness.argmax())]


def _checked_vote(vote: object, labels: set[int]) -> Vote:
    if not isinstance(vote, Vote) or not isinstance(vote.scores, Mapping):
        raise AdapterError(
            f"the voter must return a Vote whose scores map each label to a number, got {type(vote).__name__}"
        )
    if vote.winner not in labels or set(vote.scores) != labels:
        raise AdapterError(
            f"the voter must elect and score the labels {sorted(labels)}, it elected {vote.winner!r} and scored "
            f"{sorted(vote.scores)}"
        )
    return vote
