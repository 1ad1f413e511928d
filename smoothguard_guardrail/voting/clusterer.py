"""Which answers say the same: `clusterer=`."""

from __future__ import annotations

import numbers as number_types
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting.contradiction import contradict, numbers, polarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Clusterer


@dataclass(frozen=True, slots=True, kw_only=True)
class KMeansClusterer:
    """Splits answers into a fixed number of clusters by K-means: the authors' choice.

    It always makes `num_clusters` clusters if there are that many different answers.

    Args:
        num_clusters: Number of clusters, at least 1.
        seed: Seed of the initialisation.

    Raises:
        ConfigurationError: If `num_clusters` is below 1.

    Example:
        >>> labels = KMeansClusterer()(np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]))
        >>> labels[0] == labels[1] != labels[2]
        np.True_

    Source: arXiv 2510.26830, figure 1, and the authors' code (k = 2).
    """

    num_clusters: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_clusters < 1:
            raise ConfigurationError(f"num_clusters must be at least 1, got {self.num_clusters}")

    def __call__(self, embeddings: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return one label per row of (num_answers, dimensions)."""
        # Points closer than 1e-6 of the largest are one point: K-means warns about clusters that it cannot separate.
        points = np.round(embeddings / max(float(np.abs(embeddings).max(initial=0)), 1e-300), 6)
        clusters = min(self.num_clusters, len(np.unique(points, axis=0)))
        if clusters < 2:
            return np.zeros(len(points), dtype=np.intp)
        from sklearn.cluster import KMeans

        labels: NDArray[np.intp] = KMeans(clusters, n_init=10, random_state=self.seed).fit_predict(points)
        return labels


@dataclass(frozen=True, slots=True, kw_only=True)
class AgglomerativeClusterer:
    """Joins answers bottom-up while their average cosine distance is below a threshold.

    Answers without a direction (zero vectors) are at distance 0 from each other and 1 from all others.

    Args:
        distance_threshold: Cosine distance at which clusters stay apart, in (0, 2].

    Raises:
        ConfigurationError: If the threshold is out of range.

    Example:
        >>> len(set(AgglomerativeClusterer(distance_threshold=0.3)(np.eye(3)).tolist()))
        3
    """

    distance_threshold: float = 0.35

    def __post_init__(self) -> None:
        if not 0 < self.distance_threshold <= 2:
            raise ConfigurationError(f"distance_threshold must be in (0, 2], got {self.distance_threshold}")

    def __call__(self, embeddings: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return one label per row of (num_answers, dimensions)."""
        if len(embeddings) < 2:
            return np.zeros(len(embeddings), dtype=np.intp)
        from sklearn.cluster import AgglomerativeClustering

        model = AgglomerativeClustering(
            n_clusters=None, distance_threshold=self.distance_threshold, metric="precomputed", linkage="average"
        )
        labels: NDArray[np.intp] = model.fit_predict(1 - cosine_similarities(embeddings, embeddings))
        return labels


def cosine_similarities(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosines between the rows of two arrays, in [-1, 1].

    Two zero vectors have cosine 1; a zero vector and any other have cosine 0.
    """
    left, right = unit_rows(first), unit_rows(second)
    cosines: NDArray[np.float64] = np.clip(left @ right.T, -1.0, 1.0)
    cosines[np.ix_(~left.any(axis=1), ~right.any(axis=1))] = 1.0
    return cosines


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows scaled to length 1; zero vectors stay zero."""
    rows = np.asarray(rows, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def cluster_answers(
    keys: Sequence[str],
    texts: Sequence[str],
    embeddings: NDArray[np.float64] | None,
    clusterer: Clusterer,
) -> list[int]:
    r"""Return one label per answer; 0 is the largest cluster, ties by first appearance.

    Two rules override the clusterer: answers with equal keys share a label, and answers that contradict each other
    (see `contradiction`) do not. Unanimous answers are one cluster without asking it. The clusterer sees the answers
    sorted by key, so the grouping does not depend on their order.

    Args:
        keys: Canonical forms from `answer_key`, at least one.
        texts: Texts from `answer_text`.
        embeddings: Float64 (num_answers, dimensions); may be None when all keys are equal.
        clusterer: Groups rows.

    Raises:
        AdapterError: If the clusterer does not return one integer per row, or embeddings are missing.

    Example:
        >>> cluster_answers(["\nyes", "\nno", "\nyes"], ["Yes", "No", "Yes"], np.ones((3, 2)), KMeansClusterer())
        [0, 1, 0]
    """
    if len(set(keys)) == 1:
        return [0] * len(keys)
    if embeddings is None or len(embeddings) != len(keys) or len(texts) != len(keys):
        num_rows = 0 if embeddings is None else len(embeddings)
        raise AdapterError(
            f"clustering needs one text and one embedding for each of the {len(keys)} answers, got {len(texts)} texts "
            f"and {num_rows} embeddings"
        )
    # One text and one row represent all answers with the same key, whatever their order.
    first_index: dict[str, int] = {}
    for place in sorted(range(len(keys)), key=lambda place: (keys[place], texts[place])):
        first_index.setdefault(keys[place], place)
    order = sorted(keys)
    rows = np.stack([embeddings[first_index[key]] for key in order])
    raw = _checked_labels(clusterer(rows), len(order))
    groups: dict[int, list[str]] = defaultdict(list)
    for key, label in dict(zip(reversed(order), reversed(raw), strict=True)).items():
        groups[label].append(key)
    counts = Counter(keys)
    parts = [
        part
        for group in groups.values()
        for part in _split(group, counts, {key: texts[first_index[key]] for key in group}, embeddings, first_index)
    ]
    return _renumber(keys, {key: index for index, part in enumerate(parts) for key in part})


def _split(
    group: list[str],
    counts: Counter[str],
    texts: dict[str, str],
    embeddings: NDArray[np.float64],
    first_index: dict[str, int],
) -> list[list[str]]:
    """Split a cluster into parts without a contradiction.

    Answers with a polarity or a number come first, the most frequent leading; each answer joins the nearest part that
    it does not contradict, or starts a new one.
    """
    parts: list[list[str]] = []
    committed = {key: bool(polarity(texts[key]) or numbers(texts[key])) for key in group}
    for key in sorted(group, key=lambda key: (not committed[key], -counts[key], key)):
        fitting = [
            part for part in parts if not any(contradict((key, texts[key]), (other, texts[other])) for other in part)
        ]
        if not fitting:
            parts.append([key])
            continue
        row = embeddings[first_index[key]][None]
        nearness = [
            float(cosine_similarities(row, embeddings[[first_index[other] for other in part]]).mean())
            for part in fitting
        ]
        fitting[nearness.index(max(nearness))].append(key)
    return parts


def _renumber(keys: Sequence[str], groups: dict[str, int]) -> list[int]:
    sizes = Counter(groups[key] for key in keys)
    first = {group: place for place, group in reversed(list(enumerate(groups[key] for key in keys)))}
    ranks = {group: rank for rank, group in enumerate(sorted(sizes, key=lambda group: (-sizes[group], first[group])))}
    return [ranks[groups[key]] for key in keys]


def _checked_labels(labels: object, expected: int) -> list[int]:
    try:
        values = list(labels)  # type: ignore[call-overload]
    except TypeError:
        raise AdapterError(f"the clusterer must return a sequence of labels, got {type(labels).__name__}") from None
    if len(values) != expected:
        raise AdapterError(f"the clusterer must return one label per answer, got {len(values)} for {expected} answers")
    if not all(isinstance(value, number_types.Integral) for value in values):
        raise AdapterError(f"the clusterer must return integers as labels, got {values[:5]}")
    return [int(value) for value in values]
