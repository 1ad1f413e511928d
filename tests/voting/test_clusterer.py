"""Which answers share a cluster, whatever the clusterer says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting import AgglomerativeClusterer, KMeansClusterer, cluster_answers
from smoothguard_guardrail.voting.answers import fold
from smoothguard_guardrail.voting.contradiction import contradict

CLUSTERERS = (KMeansClusterer(), KMeansClusterer(num_clusters=3), AgglomerativeClusterer())
POOL = (
    "Yes, there is a dog.", "No, there is no dog.", "There is a dog.", "There is no dog.", "A dog.",
    "There are 2 dogs.", "There are three dogs.", "Red.", "", "I can't say.", "It is blue", "yes there is a dog",
)  # fmt: skip
VECTORS = {text: np.random.default_rng(place).normal(size=6) for place, text in enumerate(POOL)} | {"": np.zeros(6)}
answer_lists = st.lists(st.sampled_from(POOL), min_size=1, max_size=9)


def cluster(texts: list[str], clusterer: Callable) -> list[int]:
    return cluster_answers(
        ["\n" + fold(text) for text in texts], texts, np.stack([VECTORS[text] for text in texts]), clusterer
    )


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
    labels = clusterer(embeddings)
    assert labels.shape == (len(embeddings),)
    assert np.issubdtype(labels.dtype, np.integer)
    for first, second in itertools.combinations(range(len(embeddings)), 2):
        if np.array_equal(embeddings[first], embeddings[second]):
            assert labels[first] == labels[second]


def test_clusterers_find_obvious_clusters() -> None:
    embeddings = np.array([[1, 0.01], [0, 1], [1, 0], [0.02, 1], [0.99, 0.02]])
    for clusterer in (KMeansClusterer(), AgglomerativeClusterer(distance_threshold=0.1)):
        assert partition(clusterer(embeddings).tolist()) == {frozenset({0, 2, 4}), frozenset({1, 3})}


def test_zero_vectors_are_their_own_cluster() -> None:
    labels = AgglomerativeClusterer()(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.1]]))
    assert partition(labels.tolist()) == {frozenset({0, 2}), frozenset({1, 3})}


@pytest.mark.parametrize("threshold", [0.0, -1.0, 2.1])
def test_bad_thresholds_are_rejected(threshold: float) -> None:
    with pytest.raises(ConfigurationError):
        AgglomerativeClusterer(distance_threshold=threshold)
    with pytest.raises(ConfigurationError):
        KMeansClusterer(num_clusters=0)


def random_clusterer(seed: int) -> Callable:
    return lambda embeddings: np.random.default_rng(seed).integers(-3, 3, len(embeddings))


any_clusterer = st.one_of(st.sampled_from(CLUSTERERS), st.integers(0, 1000).map(random_clusterer))


@given(answer_lists, any_clusterer)
@settings(deadline=None, max_examples=150)
def test_equal_answers_stay_together_and_contradicting_ones_apart(texts: list[str], clusterer: Callable) -> None:
    labels = cluster(texts, clusterer)
    keys = ["\n" + fold(text) for text in texts]
    for first, second in itertools.combinations(range(len(texts)), 2):
        if keys[first] == keys[second]:
            assert labels[first] == labels[second]
        elif contradict((keys[first], texts[first]), (keys[second], texts[second])):
            assert labels[first] != labels[second]
    sizes = [labels.count(label) for label in range(max(labels) + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0


@given(answer_lists, st.randoms(use_true_random=False), any_clusterer)
@settings(deadline=None, max_examples=150)
def test_the_order_of_the_answers_does_not_matter(texts: list[str], random: object, clusterer: Callable) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)  # type: ignore[attr-defined]
    labels = cluster(texts, clusterer)
    shuffled = cluster([texts[place] for place in order], clusterer)
    back = [0] * len(texts)
    for place, label in zip(order, shuffled, strict=True):
        back[place] = label
    assert partition(labels) == partition(back)


def test_unanimous_answers_need_no_clusterer_and_no_embedding() -> None:
    def never(_: object) -> list[int]:
        raise AssertionError("asked")

    assert cluster_answers(["\nyes"] * 4, ["Yes", "yes.", "yes", "YES"], None, never) == [0] * 4


def test_neutral_answers_join_the_nearest_side() -> None:
    texts = ["Yes.", "Yes.", "No.", "A dog", "Nothing here"]
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.9, 0.1], [0.1, 0.9]], dtype=float)
    keys = ["\n" + fold(text) for text in texts]
    labels = cluster_answers(keys, texts, vectors, lambda rows: [7] * len(rows))
    assert labels == [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    "labels",
    [[0], [0, 1, 2], None, [0.5, 1.0], np.array([np.nan, 0.0]), ["a", "b"], np.zeros((2, 2)), 3],
    ids=repr,
)
def test_broken_clusterers_are_named(labels: object) -> None:
    with pytest.raises(AdapterError, match="clusterer"):
        cluster(["Red.", "It is blue"], lambda _: labels)


def test_missing_embeddings_are_an_error() -> None:
    with pytest.raises(AdapterError, match="one embedding"):
        cluster_answers(["\na", "\nb"], ["a", "b"], None, KMeansClusterer())
