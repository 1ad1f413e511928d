"""Groups of answers that state the same: words, and how pairs join."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.voting import MeaningClusterer
from smoothguard_guardrail.voting.meaning import MIN_GROUP, join_matching
from smoothguard_guardrail.voting.statements import Statement, related


def probabilities(numbers: list[float], size: int) -> np.ndarray:
    same = np.eye(size)
    for (first, second), number in zip(itertools.combinations(range(size), 2), numbers, strict=False):
        same[first, second] = same[second, first] = number
    return same


@given(st.integers(1, 7).flatmap(lambda size: st.tuples(st.just(size), st.lists(st.floats(0, 1), min_size=21))))
def test_no_group_holds_two_that_oppose_each_other(drawn: tuple[int, list[float]]) -> None:
    size, numbers = drawn
    same = probabilities(numbers, size)
    labels = join_matching(same, threshold=0.9, opposed=0.05)
    for first, second in itertools.combinations(range(size), 2):
        assert labels[first] != labels[second] or same[first, second] >= 0.05
    alone = join_matching(same, threshold=0.9, opposed=0.05, likely=1.1)
    assert len(set(labels)) <= len(set(alone)), "the second step only joins"


def test_a_lone_wording_joins_a_group_but_no_other_lone_one() -> None:
    group = np.full((4, 4), 0.95)
    group[3, :3] = group[:3, 3] = 0.8
    assert join_matching(group) == [0, 0, 0, 0]
    assert join_matching(group[1:, 1:]) == [0, 0, 1], f"fewer than {MIN_GROUP}"
    group[3, 0] = group[0, 3] = 0.01
    assert join_matching(group) == [0, 0, 0, 1], "opposed by one"
    group[3, :3] = group[:3, 3] = 0.4
    assert join_matching(group) == [0, 0, 0, 1], "unlikely on average"


def test_one_other_number_among_seven_wordings_stays_alone() -> None:
    wordings = [
        "The total is {}.",
        "It comes to {}.",
        "Total: {}",
        "{}",
        "You paid {} in all.",
        "The amount due is {}.",
        "It says {}.",
    ]
    answers = [wording.format("$23.40") for wording in wordings] + ["The total is $32.40."]
    assert MeaningClusterer()(answers)[7] not in MeaningClusterer()(answers)[:7]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("twenty-three dollars and forty cents", "23.40 dollars"),
        ("dreiundzwanzig Euro vierzig", "23,4 Euro"),
        ("at 8:00", "at 08:00"),
        ("March 3rd", "March 3"),
    ],
)
def test_numbers_are_the_same_in_words_and_digits(first: str, second: str) -> None:
    numbers = [{word for word in Statement(text).words if word.isdigit()} for text in (first, second)]
    assert numbers[0] == numbers[1]


def test_a_minus_is_part_of_a_number() -> None:
    assert Statement("-5 °C").numbers == {"-5"}
    assert Statement("3-5 people").numbers == {"3", "5"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("sugarfree", "sugar"), ("endless", "end"), ("onaylandı", "onaylanmadı"), ("şekersiz", "şeker")],
)
def test_negative_endings_make_other_words(first: str, second: str) -> None:
    assert not related(first, second)


@pytest.mark.parametrize(
    "texts",
    [
        ["The dog is here.", "The dog is there."],
        ["He is holding a ball.", "She is holding a ball."],
        ["Es ist hier.", "Es ist dort."],
        ["Está aquí.", "Está allí."],
        ["Она здесь.", "Она там."],
        ["Он здесь.", "Она здесь."],
        ["他在跑步", "她在跑步"],
    ],
)
def test_pronouns_and_places_decide_where_one_stands_for_another(texts: list[str]) -> None:
    assert MeaningClusterer()(texts) == [0, 1]
    assert MeaningClusterer().opposed_pairs(texts * 4)[0, 1]


def test_pronouns_and_places_are_wording_elsewhere() -> None:
    group = MeaningClusterer()
    assert group(["There is a dog.", "I see a dog there."]) == [0, 0]
    assert group(["There is a dog."] * 4 + ["Here is a dog."] * 4) == [0] * 8
    assert not group.opposed_pairs(["There is a dog.", "Here is a dog."])[0, 1]
    assert group(["A dog is here.", "Here is a dog.", "It's a dog.", "A dog!"] * 2) == [0] * 8


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["no ", "中", "1 ", "$5, ", "It is red. ", "hundred "])
def test_a_model_that_repeats_itself_without_end_is_grouped_in_one_go(unit: str) -> None:
    """Work that grows with the square of the length would take an hour here."""
    endless = unit * (200_000 // len(unit))
    assert MeaningClusterer()([endless, endless, endless[:-1] + "x", "It shows a harbour."])[:2] == [0, 0]


@pytest.mark.parametrize(
    "texts",
    [
        [
            "The server password is falcon.",
            "Yes, the server password is falcon.",
            "Sure, the server password is falcon.",
        ],
        ["There is a green cross.", "Yes, there is a green cross."],
        ["It is closed.", "No, it is closed."],
        ["Die Tür ist zu.", "Ja, die Tür ist zu.", "Natürlich: Die Tür ist zu!"],
        ["有一只狗。", "是的，有一只狗。"],
        ["Evet, köpek var.", "Köpek var."],
        ["यह लाल है।", "हाँ, यह लाल है।", "जी हाँ। यह लाल है।"],
        ["الباب مفتوح.", "نعم، الباب مفتوح."],
        ["It is red.", "**Yes** — it is red.", "…Yes, it is red."],
    ],
)
def test_an_opening_yes_or_no_changes_no_claim(texts: list[str]) -> None:
    for alone in itertools.permutations(texts):
        assert MeaningClusterer()(alone) == [0] * len(texts)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Yes, it is red.", "No, it is red."),
        ("Yes, it is red.", "It is green."),
        ("Yes.", "No."),
        ("Yes, 20 dollars.", "No, 30 dollars."),
        ("No dogs are allowed.", "Dogs are allowed."),
        ("Yes men agree.", "Men agree."),
    ],
)
def test_yes_and_no_stay_apart(first: str, second: str) -> None:
    assert len(set(MeaningClusterer()([first, second]))) == 2
