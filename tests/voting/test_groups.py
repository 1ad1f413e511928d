"""Which answers share a group, whatever the clusterer says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from numpy.typing import NDArray

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import AgglomerativeClusterer, Answer, KMeansClusterer, group_answers

CLUSTERERS = (KMeansClusterer(), KMeansClusterer(num_clusters=3), AgglomerativeClusterer())
POOL: tuple[tuple[str, Stance], ...] = (
    ("A dog.", "answers"), ("a dog", "answers"), ("A cat.", "answers"), ("Red.", "answers"), ("", "unsure"),
    ("I can't say.", "refuses"), ("I won't.", "refuses"), ("Too blurry.", "unsure"), ('{"open": 1}', "answers"),
    ('{"open": 2}', "answers"), ("It is blue", "answers"),
)  # fmt: skip
VECTORS = {text: np.random.default_rng(place).normal(size=6) for place, (text, _) in enumerate(POOL)}
pools = st.lists(st.sampled_from(POOL), min_size=1, max_size=9)


def embed(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([VECTORS[text] for text in texts])


def group(pool: list[tuple[str, Stance]], clusterer: Any) -> list[int]:
    answers = [Answer.of(AIMessage(text)) for text, _ in pool]
    return group_answers(answers, [stance for _, stance in pool], clusterer=clusterer, embed=embed)


def random_clusterer(seed: int) -> Callable[..., Any]:
    return lambda texts, embed: np.random.default_rng(seed).integers(-3, 3, len(texts))


any_clusterer = st.one_of(st.sampled_from(CLUSTERERS), st.integers(0, 1000).map(random_clusterer))


@given(pools, any_clusterer)
@settings(deadline=None, max_examples=150)
def test_equal_answers_stay_together_and_stances_and_structures_apart(
    pool: list[tuple[str, Stance]], clusterer: Any
) -> None:
    labels = group(pool, clusterer)
    answers = [Answer.of(AIMessage(text)) for text, _ in pool]
    for first, second in itertools.combinations(range(len(pool)), 2):
        stances = pool[first][1], pool[second][1]
        if stances[0] != stances[1] or answers[first].structure != answers[second].structure:
            assert labels[first] != labels[second]
        elif stances[0] != "answers" or answers[first].key == answers[second].key:
            assert labels[first] == labels[second]
    sizes = [labels.count(label) for label in range(max(labels) + 1)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0


@given(pools, st.randoms(use_true_random=False), any_clusterer)
@settings(deadline=None, max_examples=150)
def test_the_order_of_the_answers_does_not_matter(pool: list[tuple[str, Stance]], random: Any, clusterer: Any) -> None:
    order = list(range(len(pool)))
    random.shuffle(order)
    labels, shuffled = group(pool, clusterer), group([pool[place] for place in order], clusterer)
    back = [0] * len(pool)
    for place, label in zip(order, shuffled, strict=True):
        back[place] = label
    for first, second in itertools.combinations(range(len(pool)), 2):
        assert (labels[first] == labels[second]) == (back[first] == back[second])


def test_nothing_is_embedded_where_nothing_is_left_to_decide() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("asked")

    texts: list[tuple[str, Stance]] = [
        ("Yes", "answers"), ("yes.", "answers"), ("I won't.", "refuses"), ("No way, I must decline.", "refuses"),
        ("Blurry.", "unsure"), ("", "unsure"), ('{"a": 1}', "answers"), ('{"a":1}', "answers"),
    ]  # fmt: skip
    answers = [Answer.of(AIMessage(text)) for text, _ in texts]
    labels = group_answers(answers, [stance for _, stance in texts], clusterer=never, embed=never)
    assert labels == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "labels",
    [[0], [0, 1, 2], None, [0.5, 1.0], np.array([np.nan, 0.0]), ["a", "b"], np.zeros((2, 2)), 3],
    ids=repr,
)
def test_errors_name_a_broken_clusterer(labels: object) -> None:
    with pytest.raises(AdapterError, match="clusterer"):
        group([("Red.", "answers"), ("It is blue", "answers")], lambda texts, embed: labels)
