"""The vote over groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import SentimentVoter, StanceVoter, Vote

scores = st.floats(-1, 1)
scored_answers = st.lists(st.tuples(st.integers(0, 4), scores), min_size=1, max_size=15)
weights = st.floats(0, 0.49)
counts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(1, 9), max_size=3)).filter(
    lambda each: each[0] + each[1] + sum(each[2]) > 0
)
shares = st.floats(0.01, 1.0)
REFUSALS, UNSURE, FIRST = 0, 1, 2


def vote(refusals: int, unsure: int, groups: list[int], share: float = 0.35) -> Vote:
    """Vote over refusals (label 0), unsure answers (label 1) and groups of other answers (labels from 2)."""
    labels = [REFUSALS] * refusals + [UNSURE] * unsure
    stances: list[Stance] = ["refuses"] * refusals + ["unsure"] * unsure
    for label, size in enumerate(groups, FIRST):
        labels += [label] * size
        stances += ["answers"] * size
    return StanceVoter(share)(labels, stances)


@given(counts, shares)
def test_enough_refusals_win_and_fewer_count_like_any_answer(counted: tuple[int, int, list[int]], share: float) -> None:
    refusals, unsure, groups = counted
    total = refusals + unsure + sum(groups)
    found = vote(refusals, unsure, groups, share)
    if refusals >= max(1, math.ceil(share * total - 1e-9)):
        assert found.winner == REFUSALS
    elif 2 * unsure > total:
        assert found.winner == UNSURE
    else:
        candidates = (
            {REFUSALS: refusals} | dict(enumerate(groups, FIRST)) if refusals else dict(enumerate(groups, FIRST))
        )
        if candidates:
            assert candidates[found.winner] == max(candidates.values())


@given(counts, shares)
def test_without_refusals_no_preference_acts(counted: tuple[int, int, list[int]], share: float) -> None:
    _, unsure, groups = counted
    assume(unsure + sum(groups))
    assert vote(0, unsure, groups, share) == vote(0, unsure, groups, 1.0)


@pytest.mark.parametrize(
    ("refusals", "unsure", "groups", "winner"),
    [
        (0, 3, [5], FIRST),
        (0, 4, [4], FIRST),
        (0, 5, [3], UNSURE),
        (6, 0, [2], REFUSALS),
        (3, 0, [5], REFUSALS),
        (2, 0, [6], FIRST),
        (1, 0, [7], FIRST),
        (3, 5, [], REFUSALS),
        (1, 0, [], REFUSALS),
        (2, 0, [2, 2, 2], REFUSALS),
        (0, 0, [3, 5], FIRST + 1),
    ],
)
def test_the_default_vote_of_eight(refusals: int, unsure: int, groups: list[int], winner: int) -> None:
    assert vote(refusals, unsure, groups).winner == winner


def test_ties_are_reported() -> None:
    assert vote(0, 0, [4, 4]).tied
    assert not vote(0, 0, [5, 3]).tied
    assert not vote(0, 4, [4]).tied
    assert not vote(4, 0, [4]).tied


def test_the_number_of_refusals_that_win_is_stated() -> None:
    assert [StanceVoter(0.35).refusals_needed(number) for number in range(1, 11)] == [1, 1, 2, 2, 2, 3, 3, 3, 4, 4]
    assert [StanceVoter(0.125).refusals_needed(number) for number in (1, 7, 8, 9)] == [1, 1, 1, 2]


@given(scored_answers, weights)
def test_benign_answers_cannot_outvote_a_decisive_share(answers: list[tuple[int, float]], weight: float) -> None:
    labels, benign = map(list, zip(*answers, strict=True))
    largest = max(set(labels), key=labels.count)
    assume(labels.count(largest) / len(labels) > 0.5 + weight + 1e-9)
    assert SentimentVoter(weight)(labels, [], benign).winner == largest


@given(scored_answers, weights, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter(answers: list[tuple[int, float]], weight: float, random: Any) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    votes = []
    for each in (answers, shuffled):
        labels, benign = map(list, zip(*each, strict=True))
        votes.append(SentimentVoter(weight)(labels, [], benign))
    assert votes[0] == votes[1]


@given(scored_answers)
def test_without_weight_the_largest_cluster_wins(answers: list[tuple[int, float]]) -> None:
    labels, benign = map(list, zip(*answers, strict=True))
    found = SentimentVoter(0.0)(labels, [], benign)
    assert labels.count(found.winner) == max(map(labels.count, labels))
    assert sum(found.scores.values()) == pytest.approx(1)
    assert found.scores == SentimentVoter(0.0)(labels, []).scores


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
    assert SentimentVoter(0.2)(labels, [], benign).winner == winner


def test_bad_votes_are_rejected() -> None:
    for weight in (-0.1, 0.5, float("nan")):
        with pytest.raises(ConfigurationError):
            SentimentVoter(weight)
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError):
            StanceVoter(share)
    with pytest.raises(AdapterError):
        SentimentVoter()([], [], [])
    with pytest.raises(AdapterError):
        SentimentVoter()([0], [], [1.0, 1.0])
    for labels, stances in (([], []), ([0], [])):
        with pytest.raises(AdapterError):
            StanceVoter()(labels, stances)
