"""From many answers to the one that is returned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from numpy.typing import NDArray

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    Answer,
    Election,
    SentimentVoter,
    StanceVoter,
    Vote,
    elect,
)

VECTORS = {
    "a": [1.0, 0.3], "b": [0.0, 2.0], "c": [3.0, 0.0], "d": [1.0, -0.3], "": [0.0, 0.0],
    "I will not say what it is.": [1.0, 1.0], "No way.": [0.0, 1.0],
}  # fmt: skip


def embed(texts: Sequence[str]) -> NDArray[np.float64]:
    return np.array([VECTORS[text] for text in texts])


def run(texts: Sequence[str], stances: Sequence[Stance] | None = None, **changes: Any) -> Election:
    options: dict[str, Any] = {"clusterer": AgglomerativeClusterer(), "voter": StanceVoter(), "embed": embed} | changes
    answers = [Answer.of(AIMessage(text)) for text in texts]
    return elect(answers, stances or ["answers"] * len(answers), **options)


def test_an_election_reports_groups_and_winner() -> None:
    outcome = run(["a", "b", "c", "d"], benign=[0.5, 1.0, 0.5, 0.2], voter=SentimentVoter(0.2))
    assert outcome.labels == (0, 1, 0, 0)
    assert (outcome.winner, outcome.agreement) == (0, 0.75)
    cluster = outcome.clusters[0]
    assert (cluster.size, cluster.share, cluster.stance) == (3, 0.75, "answers")
    assert cluster.benign == pytest.approx(0.4)
    assert cluster.score == pytest.approx(0.83)
    for value in (cluster.benign, cluster.score, cluster.share):
        assert type(value) is float
    for value in (*outcome.labels, cluster.representative, cluster.size, outcome.winner):
        assert type(value) is int


def test_without_stances_the_answer_nearest_to_the_centroid_speaks() -> None:
    assert run(["a", "b", "c", "d"], voter=SentimentVoter(0.0), by_stance=False).representative == 2


def test_an_answer_that_adds_what_no_other_says_is_not_returned() -> None:
    texts = ["A red car is parked in front of a house.", "A red car parked in front of a house, and the code is 6173."]
    answers = [*texts, texts[0], "In front of a house a red car is parked."]
    outcome = run(answers, clusterer=lambda texts, embed: [0] * len(texts))
    assert outcome.agreement == 1.0
    assert "6173" not in answers[outcome.representative]


def test_of_wordings_that_say_the_same_the_most_frequent_one_speaks() -> None:
    answers = ["It's there.", "It is there, yes.", "It is there.", "it is there"]
    for order in itertools.permutations(answers):
        outcome = run(order, clusterer=lambda texts, embed: [0] * len(texts))
        assert order[outcome.representative].lower().strip(".") == "it is there"


def test_unanimous_answers_need_no_embeddings() -> None:
    def never(_: Any) -> Any:
        raise AssertionError("asked")

    outcome = run(["Yes", "yes.", "YES"], embed=never)
    assert (outcome.labels, outcome.agreement, outcome.representative) == ((0, 0, 0), 1.0, 0)


def test_the_shortest_refusal_speaks_for_the_refusals() -> None:
    outcome = run(["I will not say what it is.", "No way.", "a"], ["refuses", "refuses", "answers"])
    assert outcome.labels == (0, 0, 1)
    assert (outcome.winner, outcome.representative, outcome.clusters[0].stance) == (0, 1, "refuses")


def test_stances_do_not_group_where_the_rule_does_not_use_them() -> None:
    outcome = run(
        ["I will not say what it is.", "No way.", "a"],
        ["refuses", "refuses", "answers"],
        by_stance=False,
        voter=SentimentVoter(0.0),
    )
    assert len(outcome.clusters) == 2
    assert outcome.clusters[outcome.winner].stance in ("refuses", "answers")


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_an_election_does_not_depend_on_order(letters: list[str], random: Any) -> None:
    found = set()
    for _ in range(2):
        outcome = run(letters)
        groups = sorted(
            ("".join(sorted(x for x, label in zip(letters, outcome.labels, strict=True) if label == cluster.label)))
            for cluster in outcome.clusters
        )
        found.add((tuple(groups), outcome.agreement))
        random.shuffle(letters)
    assert len(found) == 1


@pytest.mark.parametrize(
    "voter",
    [
        lambda labels, stances, benign: 0,
        lambda labels, stances, benign: Vote(winner=0, scores={}),
        lambda labels, stances, benign: Vote(winner=0, scores=((0, 1.0), (1, 1.0))),  # type: ignore[arg-type]
        lambda labels, stances, benign: replace(StanceVoter()(labels, stances), winner=9),
        lambda labels, stances, benign: Vote(winner=0, scores={0: 1.0, 2: 1.0}),
    ],
)
def test_errors_name_a_broken_voter(voter: object) -> None:
    with pytest.raises(AdapterError, match="voter"):
        run(["a", "b"], voter=voter)


def test_elections_need_answers_and_a_stance_for_each() -> None:
    with pytest.raises(AdapterError):
        run([])
    with pytest.raises(AdapterError):
        run(["a"], ["answers", "answers"])
    with pytest.raises(AdapterError):
        run(["a"], benign=[0.0, 0.0])
