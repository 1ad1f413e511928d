"""How suspicious a request is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import suspicion

STANCES: tuple[Stance, ...] = ("refuses", "unsure", "answers")


@pytest.mark.parametrize(
    ("stances", "labels", "expected"),
    [
        (["answers", "refuses", "refuses"], [1, 0, 0], 1.0),
        (["answers", "refuses", "answers"], [0, 1, 0], 0.5),
        (["answers", "answers", "answers"], [0, 0, 0], 0.0),
        (["answers", "answers", "answers"], [1, 0, 0], 0.5),
        (["answers", "unsure", "unsure"], [1, 0, 0], 0.25),
        (["refuses", "answers", "refuses"], [0, 1, 0], 0.25),
        (["refuses", "refuses"], [0, 0], 0.0),
        (["unsure", "refuses"], [0, 1], 0.5),
    ],
)
def test_it_says_how_the_clean_copy_differs(stances: list[Stance], labels: list[int], expected: float) -> None:
    assert suspicion(labels, stances) == expected


def test_it_needs_two_answers() -> None:
    assert suspicion([0], ["answers"]) is None
    assert suspicion([], []) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STANCES)), min_size=2, max_size=9))
def test_it_is_a_share(answers: list[tuple[int, Stance]]) -> None:
    labels, stances = map(list, zip(*answers, strict=True))
    found = suspicion(labels, stances)
    assert found is not None
    assert 0 <= found <= 1
