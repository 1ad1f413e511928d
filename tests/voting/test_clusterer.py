"""Clusterers of embeddings."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.voting import AgglomerativeClusterer, KMeansClusterer

CLUSTERERS = (KMeansClusterer(), KMeansClusterer(num_clusters=3), AgglomerativeClusterer())


def partition(labels: list[int]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(np.array(labels) == label).tolist()) for label in set(labels)}


rows = arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.integers(1, 4)),
    elements=st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-12, 1e6]), st.floats(-1, 1)),
)


@given(rows, st.sampled_from(CLUSTERERS))
@settings(deadline=None, max_examples=150)
def test_clusterers_take_any_rows(embeddings: NDArray[np.float64], clusterer: Callable) -> None:
    labels = clusterer([""] * len(embeddings), lambda texts: embeddings)
    assert labels.shape == (len(embeddings),)
    assert np.issubdtype(labels.dtype, np.integer)
    for first, second in itertools.combinations(range(len(embeddings)), 2):
        if np.array_equal(embeddings[first], embeddings[second]):
            assert labels[first] == labels[second]


def test_clusterers_find_obvious_clusters() -> None:
    embeddings = np.array([[1, 0.01], [0, 1], [1, 0], [0.02, 1], [0.99, 0.02]])
    for clusterer in (KMeansClusterer(), AgglomerativeClusterer(distance_threshold=0.1)):
        assert partition(clusterer([""] * 5, lambda texts: embeddings).tolist()) == {
            frozenset({0, 2, 4}),
            frozenset({1, 3}),
        }


def test_zero_vectors_are_their_own_cluster() -> None:
    labels = AgglomerativeClusterer()(
        [""] * 4, lambda texts: np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.1]])
    )
    assert partition(labels.tolist()) == {frozenset({0, 2}), frozenset({1, 3})}


@pytest.mark.parametrize("threshold", [0.0, -1.0, 2.1])
def test_bad_thresholds_are_rejected(threshold: float) -> None:
    with pytest.raises(ConfigurationError):
        AgglomerativeClusterer(distance_threshold=threshold)
    with pytest.raises(ConfigurationError):
        KMeansClusterer(num_clusters=0)
