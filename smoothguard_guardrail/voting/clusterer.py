"""Which answers say the same: `clusterer=`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embed


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
        >>> labels = KMeansClusterer()(["a", "b", "c"], lambda texts: np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]))
        >>> labels[0] == labels[1] != labels[2]
        np.True_

    Source: arXiv 2510.26830, figure 1, and the authors' code (k = 2).
    """

    num_clusters: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_clusters < 1:
            raise ConfigurationError(f"num_clusters must be at least 1, got {self.num_clusters}")

    def __call__(self, texts: Sequence[str], embed: Embed) -> NDArray[np.intp]:
        """Return one label per text."""
        embeddings = embed(texts)
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
        >>> len(set(AgglomerativeClusterer(distance_threshold=0.3)(["a", "b", "c"], lambda texts: np.eye(3)).tolist()))
        3
    """

    distance_threshold: float = 0.35

    def __post_init__(self) -> None:
        if not 0 < self.distance_threshold <= 2:
            raise ConfigurationError(f"distance_threshold must be in (0, 2], got {self.distance_threshold}")

    def __call__(self, texts: Sequence[str], embed: Embed) -> NDArray[np.intp]:
        """Return one label per text."""
        embeddings = embed(texts)
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
