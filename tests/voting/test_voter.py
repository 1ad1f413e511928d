"""The vote, and the election around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    KMeansClusterer,
    Vote,
    WeightedVoter,
    elect,
)

scores = st.floats(-1, 1)
answers_cast = st.lists(st.tuples(st.integers(0, 4), scores), min_size=1, max_size=15)
weights = st.floats(0, 0.49)


@given(answers_cast, weights)
def test_benign_answers_cannot_outvote_a_decisive_share(answers_cast: list[tuple[int, float]], weight: float) -> None:
    labels, benign = map(list, zip(*answers_cast, strict=True))
    largest = max(set(labels), key=labels.count)
    share = labels.count(largest) / len(labels)
    assume(share > 0.5 + weight + 1e-9)
    assert WeightedVoter(weight)(labels, benign).winner == largest


@given(answers_cast, weights, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(
    answers_cast: list[tuple[int, float]], weight: float, random: object
) -> None:
    shuffled = list(answers_cast)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (WeightedVoter(weight)(*map(list, zip(*each, strict=True))) for each in (answers_cast, shuffled))
    assert first == second


@given(answers_cast)
def test_without_weight_the_largest_cluster_wins(answers_cast: list[tuple[int, float]]) -> None:
    labels, benign = map(list, zip(*answers_cast, strict=True))
    vote = WeightedVoter(0.0)(labels, benign)
    assert labels.count(vote.winner) == max(map(labels.count, labels))
    assert sum(vote.scores.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "benign", "winner"),
    [
        ([0, 1], [0.0, 0.0], 0),
        ([0, 1], [0.0, 0.1], 1),
        ([1, 0], [0.1, 0.1], 0),
        ([0, 0, 1], [-1.0, -1.0, 1.0], 1),
        ([0, 0, 0, 1], [-1.0, -1.0, -1.0, 1.0], 0),
        # Equal scores, 0.6 + 0.2 * 0 and 0.4 + 0.2 * 1: the larger share wins.
        ([0, 0, 0, 1, 1], [0.0, 0.0, 0.0, 1.0, 1.0], 0),
    ],
)
def test_ties_and_the_benign_term(labels: list[int], benign: list[float], winner: int) -> None:
    assert WeightedVoter(0.2)(labels, benign).winner == winner


def test_bad_votes_are_rejected() -> None:
    for weight in (-0.1, 0.5, float("nan")):
        with pytest.raises(ConfigurationError):
            WeightedVoter(weight)
    for labels, benign in (([], []), ([0], [])):
        with pytest.raises(AdapterError):
            WeightedVoter()(labels, benign)


def run(keys: list[str], embeddings: np.ndarray | None, benign: list[float], **changes: object) -> object:
    options = {"clusterer": AgglomerativeClusterer(), "voter": WeightedVoter(0.2)} | changes
    return elect(keys, [key.strip() for key in keys], embeddings, benign=benign, **options)  # type: ignore[arg-type]


def test_an_election_reports_clusters_and_winner() -> None:
    rows = np.array([[1.0, 0.3], [0, 2], [3, 0], [1, -0.3]])
    outcome = run(["\na", "\nb", "\nc", "\nd"], rows, [0.5, 1.0, 0.5, 0.2])
    assert outcome.labels == (0, 1, 0, 0)
    assert (outcome.winner, outcome.representative, outcome.agreement) == (0, 2, 0.75)
    assert outcome.similarities == pytest.approx((0.958, 0, 1, 0.958), abs=1e-3)
    cluster = outcome.clusters[0]
    assert (cluster.size, cluster.share) == (3, 0.75)
    assert cluster.benign == pytest.approx(0.4)
    assert cluster.score == pytest.approx(0.83)
    for value in (*outcome.similarities, cluster.benign, cluster.score, cluster.share):
        assert type(value) is float
    for value in (*outcome.labels, cluster.representative, cluster.size, outcome.winner):
        assert type(value) is int


def test_unanimous_answers_need_no_embeddings() -> None:
    outcome = run(["\nyes"] * 3, None, [0.0] * 3)
    assert (outcome.labels, outcome.agreement, outcome.representative) == ((0, 0, 0), 1.0, 0)
    assert outcome.similarities == (1.0, 1.0, 1.0)


def test_empty_answers_can_win() -> None:
    outcome = run(["\n", "\n", "\nb"], np.array([[0.0, 0], [0, 0], [1, 0]]), [0.0] * 3)
    assert outcome.representative == 0
    assert outcome.similarities == (1.0, 1.0, 0.0)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_an_election_does_not_depend_on_order(letters: list[str], random: object) -> None:
    vectors = {"a": [1, 0], "b": [0.9, 0.3], "c": [0, 1], "d": [-1, 0.2]}
    shares = {}
    for _ in range(2):
        outcome = run(
            ["\n" + letter for letter in letters], np.array([vectors[x] for x in letters]), [0.0] * len(letters)
        )
        groups = sorted(
            ("".join(sorted(x for x, label in zip(letters, outcome.labels, strict=True) if label == cluster.label)))
            for cluster in outcome.clusters
        )
        shares[tuple(groups), outcome.agreement] = True
        random.shuffle(letters)  # type: ignore[attr-defined]
    assert len(shares) == 1


@pytest.mark.parametrize(
    "voter",
    [
        lambda labels, benign: 0,
        lambda labels, benign: Vote(winner=0, scores={}),
        lambda labels, benign: Vote(winner=0, scores=((0, 1.0), (1, 1.0))),  # type: ignore[arg-type]
        lambda labels, benign: replace(WeightedVoter()(labels, benign), winner=9),
        lambda labels, benign: Vote(winner=0, scores={0: 1.0, 2: 1.0}),
    ],
)
def test_broken_voters_are_named(voter: object) -> None:
    with pytest.raises(AdapterError, match="voter"):
        run(["\na", "\nb"], np.eye(2), [0.0, 0.0], voter=voter)


def test_elections_need_answers() -> None:
    for keys, benign in (([], []), (["\na"], [])):
        with pytest.raises(AdapterError):
            run(keys, None, benign, clusterer=KMeansClusterer())
