from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.evaluation import Answer, Item, Judgement, Rate, ScoreRow, Scores
from smoothguard_guardrail.evaluation.datasets.answers import answered_part, by_category, in_order, judged

ITEMS = [Item(id=f"{category}/{number}", question="?", category=category) for category in "ba" for number in (2, 1)]

texts = st.text(st.characters(codec="utf-8"))
details = st.dictionaries(texts, st.one_of(st.none(), st.booleans(), st.integers(), texts, st.lists(texts)))


@given(texts, texts, st.lists(st.just(Path("a.png"))), st.one_of(st.none(), texts), details)
def test_items_survive_json(
    id: str, question: str, media: list[Path], label: str | None, found: dict[str, object]
) -> None:
    item = Item(id=id, question=question, media=tuple(media), label=label, details=found)
    assert Item.model_validate_json(item.model_dump_json()) == item


@given(texts, st.one_of(st.none(), texts), st.integers(0, 100))
def test_answers_survive_json(text: str, error: str | None, num_calls: int) -> None:
    answer = Answer(item_id="1", text=text, error=error, num_calls=num_calls)
    assert Answer.model_validate_json(answer.model_dump_json()) == answer


def test_scores_survive_json_with_the_kind_of_every_figure() -> None:
    metrics: dict[str, Rate | float | int | None] = {"rate": Rate(k=1, n=2), "mean": 75.0, "count": 3, "none": None}
    scores = Scores(
        benchmark="b",
        rows=(ScoreRow(group="all", num_items=2, metrics=metrics),),
        outcomes={"1": True, "2": None},
    )
    found = Scores.model_validate_json(scores.model_dump_json())
    assert found == scores
    assert [type(value) for value in found.rows[0].metrics.values()] == [Rate, float, int, type(None)]


def test_records_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        ITEMS[0].question = "!"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Item(id="1", question="?", answer="yes")  # type: ignore[call-arg]


def test_answers_are_put_in_the_order_of_items() -> None:
    answers = {item.id: item.id.upper() for item in sorted(ITEMS, key=lambda item: item.id)}
    assert in_order(ITEMS, answers) == ["B/2", "B/1", "A/2", "A/1"]
    with pytest.raises(ConfigurationError, match="2 of 4 items have no answer, such as b/1, a/1"):
        in_order(ITEMS, {"b/2": "", "a/2": ""})
    with pytest.raises(ConfigurationError, match="2 answers are for items that do not exist, such as 1, c/1"):
        in_order(ITEMS, {**answers, "c/1": "", "1": ""})


def test_parts_keep_the_order_of_items() -> None:
    assert [item.id for item in answered_part(ITEMS, ["a/1", "b/2", "a/1"])] == ["b/2", "a/1"]
    with pytest.raises(ConfigurationError, match="as c/1"):
        answered_part(ITEMS, ["a/1", "c/1"])


def test_groups_come_in_the_order_of_items_and_all_comes_last() -> None:
    groups = by_category(ITEMS)
    assert {name: [item.id for item in items] for name, items in groups.items()} == {
        "b": ["b/2", "b/1"],
        "a": ["a/2", "a/1"],
        "all": ["b/2", "b/1", "a/2", "a/1"],
    }
    assert list(groups) == ["b", "a", "all"]


def test_a_judge_has_to_judge_every_answer() -> None:
    with pytest.raises(AdapterError, match="3 judgements for 4 answers"):
        judged(lambda items, answers: [Judgement(verdict=True)] * 3, ITEMS, [""] * 4)
