from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.errors import AdapterError, ConfigurationError, InputError
from smoothguard_guardrail.evaluation import Item, Judgement
from smoothguard_guardrail.evaluation.datasets import LlavaBench
from smoothguard_guardrail.evaluation.datasets.llava_bench import review_prompt
from smoothguard_guardrail.evaluation.datasets.llava_reviews import (
    parse_review,
    read_question_items,
    read_reviews,
    score_reviews,
)
from tests.evaluation.benchmark_files import (
    LLAVA_CONTEXT,
    LLAVA_QUESTIONS,
    LLAVA_REFERENCES,
    LLAVA_RULES,
    PUBLISHED,
    REVIEWS,
    write_json,
    write_lines,
    write_llava_bench,
    write_picture,
)

published = pytest.mark.skipif(not (PUBLISHED / "llava_bench").is_dir(), reason="the published files are not there")


class Reviewer:
    """A judge that replies what it is given, by item id."""

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
        return [Judgement(verdict=None, reply=self.replies[item.id]) for item in items if item.id in self.replies]


@pytest.fixture
def bench(tmp_path: Path) -> LlavaBench:
    return LlavaBench.load(write_llava_bench(tmp_path), with_media=False, complete=False)


def test_items(tmp_path: Path) -> None:
    for name in ("001.jpg", "002.jpg"):
        write_picture(tmp_path / "images" / name)
    items = LlavaBench.load(write_llava_bench(tmp_path), complete=False).items
    assert [(item.id, item.category) for item in items] == [
        ("0", "conv"),
        ("1", "detail"),
        ("2", "complex"),
        ("3", "complex"),
    ]
    assert items[2].media == (tmp_path / "images" / "002.jpg",)
    # References stand in another order than questions, and are joined by id.
    assert [item.details["reference"] for item in items] == [f"Reference {number}." for number in range(4)]
    assert [item.details["context"] for item in items[1:3]] == ["A lighthouse.", "A ship.\nA storm."]


def test_the_judges_prompt_is_laid_out_as_upstream_does(bench: LlavaBench) -> None:
    assert review_prompt(bench.items[2], "Because.") == (
        "[Context]\nA ship.\nA storm.\n\n[Question]\nWhy?\n\n[Assistant 1]\nReference 2.\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nBecause.\n\n[End of Assistant 2]\n\n[System]\nRate them: complex.\n\n"
    )


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 6", (8.0, 6.0)),
        ("8.5 10\nAssistant 1 is better: 9 9", (8.5, 10.0)),
        ("8,6", (8.0, 6.0)),
        ("8, 6\r\nFine.", (8.0, 6.0)),
        ("Scores: 8 6", None),
        ("\n8 6", None),
        ("8 6 7", None),
        ("8", None),
        ("11 6", None),
        ("0 6", None),
        ("-1 -1", None),
        ("nan nan", None),
        ("8/10 6/10", None),
        ("", None),
    ],
)
def test_replies_are_parsed(reply: str, scores: tuple[float, float] | None) -> None:
    assert parse_review(reply) == scores


@given(st.text())
def test_any_reply_is_two_scores_or_none(reply: str) -> None:
    scores = parse_review(reply)
    assert scores is None or all(1 <= score <= 10 for score in scores)


@given(st.integers(1, 10), st.integers(1, 10), st.text())
def test_the_first_line_decides(first: int, second: int, rest: str) -> None:
    assert parse_review(f"{first} {second}\n{rest}") == (first, second)


def test_figures_worked_out_by_hand(tmp_path: Path, bench: LlavaBench) -> None:
    reviews = read_reviews(write_lines(tmp_path / "reviews.jsonl", REVIEWS))
    scores = score_reviews(reviews, items=bench.items)
    found = {row.group: row.metrics for row in scores.rows}
    assert list(found) == ["complex", "conv", "detail", "all"]
    assert found["complex"] == {  # references 5 and 7, answers 6 and 3
        "relative score": pytest.approx(75.0),
        "mean score": pytest.approx(4.5),
        "mean score of the reference": pytest.approx(6.0),
        "unscored": 0,
    }
    assert found["conv"]["relative score"] == pytest.approx(75.0)
    assert found["detail"] == {
        "relative score": None,
        "mean score": None,
        "mean score of the reference": None,
        "unscored": 1,
    }
    # References 8, 5, 7 and answers 6, 6, 3: 15 of 20. Averaging the failed review in would give 14 of 19.
    assert found["all"]["relative score"] == pytest.approx(75.0)
    assert scores.num_unscored == 1
    assert scores.outcomes == {"0": False, "1": None, "2": True, "3": False}
    assert "1 reviews do not parse and count in no score" in scores.notes


def test_a_judge_writes_the_reviews(bench: LlavaBench) -> None:
    replies = {"0": "8 6\nFine.", "1": "I cannot tell.", "2": "5 6", "3": "7 3"}
    scores = bench.score(dict.fromkeys(replies, "an answer"), judge=Reviewer(replies))
    assert scores.rows[-1].metrics["relative score"] == pytest.approx(75.0)
    assert scores.num_unscored == 1
    part = bench.part(["2"]).score({"2": "an answer"}, judge=Reviewer(replies))
    assert part.rows[-1].metrics["relative score"] == pytest.approx(120.0)
    assert "1 of 4 questions" in part.notes


def test_a_judge_is_needed_and_has_to_review_every_answer(bench: LlavaBench) -> None:
    answers = dict.fromkeys("0123", "an answer")
    with pytest.raises(ConfigurationError, match="needs a judge"):
        bench.score(answers)
    with pytest.raises(AdapterError, match="1 judgements for 4 answers"):
        bench.score(answers, judge=Reviewer({"0": "8 8"}))


def test_no_reviews_and_failed_reviews_score_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no reviews"):
        score_reviews([])
    reviews = read_reviews(write_lines(tmp_path / "reviews.jsonl", [REVIEWS[1]]))
    assert score_reviews(reviews).rows[-1].metrics["relative score"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuple": [8]}, r"row 2: `tuple` must be two numbers, got \[8\]"),
        ({"tuple": ["8", "6"]}, r"row 2: `tuple` must be two numbers"),
        ({"tuple": [True, 6]}, r"row 2: `tuple` must be two numbers"),
        ({"question_id": 0}, r"row 2: `question_id` 0 occurs twice"),
        ({"category": None}, r"row 2: `category` must be a text"),
    ],
)
def test_wrong_reviews_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = [dict(row) for row in REVIEWS]
    rows[1].update(change)
    with pytest.raises(InputError, match=message):
        read_reviews(write_lines(tmp_path / "reviews.jsonl", rows))


def test_reviews_without_scores_are_parsed_and_odd_scores_left_out(tmp_path: Path) -> None:
    rows = [
        {"question_id": 0, "category": "llava_bench_conv", "content": "8 6\nFine."},
        {"question_id": 1, "category": "llava_bench_conv", "tuple": [8.0, 12.0]},
        {"question_id": 2, "category": "llava_bench_conv", "tuple": [8.0, float("nan")]},
    ]
    reviews = read_reviews(write_lines(tmp_path / "reviews.jsonl", rows))
    assert [review.scores for review in reviews] == [(8.0, 6.0), None, None]


def test_reviews_that_do_not_join_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "questions.jsonl", LLAVA_QUESTIONS)
    with pytest.raises(InputError, match=r"questions.jsonl: .*'complex': 2.* by category"):
        read_question_items(path)
    items = read_question_items(path, complete=False)
    reviews = read_reviews(write_lines(tmp_path / "reviews.jsonl", REVIEWS))
    with pytest.raises(ConfigurationError, match="1 of 4 items have no answer, such as 3"):
        score_reviews(reviews[:3], items=items)
    with pytest.raises(ConfigurationError, match="1 answers are for items that do not exist, such as 3"):
        score_reviews(reviews, items=items[:3])
    moved = [review.model_copy(update={"category": "conv"}) for review in reviews]
    with pytest.raises(ConfigurationError, match="review of 1 is of the category 'conv', but the question of 'detail'"):
        score_reviews(moved, items=items)


@pytest.mark.parametrize(
    ("file", "rows", "message"),
    [
        ("questions.jsonl", LLAVA_QUESTIONS[:3], r"answers_gpt4.jsonl, row 1: there is no question 3"),
        ("questions.jsonl", [*LLAVA_QUESTIONS, LLAVA_QUESTIONS[0]], r"row 5: `question_id` 0 occurs twice"),
        ("context.jsonl", LLAVA_CONTEXT[:1], r"row 3: there is no context for the image 002.jpg"),
        ("context.jsonl", [{"image": "001.jpg", "caption": [1]}], r"row 1: `caption` must be a text or a list"),
        ("context.jsonl", [{"image": "001.jpg"}], r"row 1: `caption` must be a text or a list of texts, got None"),
        ("answers_gpt4.jsonl", LLAVA_REFERENCES[:3], r"row 1: there is no reference answer to question 0"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, file: str, rows: list[Any], message: str) -> None:
    folder = write_llava_bench(tmp_path)
    write_lines(folder / file, rows)
    with pytest.raises(InputError, match=message):
        LlavaBench.load(folder, with_media=False, complete=False)


def test_missing_rules_pictures_and_questions_are_refused(tmp_path: Path) -> None:
    folder = write_llava_bench(tmp_path)
    with pytest.raises(InputError, match=r"2 of 2 media files are missing, such as .*images.001.jpg"):
        LlavaBench.load(folder, complete=False)
    with pytest.raises(InputError, match=r"'complex': 2, 'conv': 1.*published ones are .*'complex': 28"):
        LlavaBench.load(folder, with_media=False)
    write_json(folder / "rule.json", {"llava_bench_conv": LLAVA_RULES["llava_bench_conv"]})
    with pytest.raises(InputError, match=r"row 2: rule.json has no rule llava_bench_detail"):
        LlavaBench.load(folder, with_media=False, complete=False)
    (folder / "rule.json").unlink()
    with pytest.raises(InputError, match=r"rule.json cannot be read"):
        LlavaBench.load(folder, with_media=False, complete=False)


@published
def test_published_files() -> None:
    folder = PUBLISHED / "llava_bench"
    bench = LlavaBench.load(folder, with_media=False)
    assert len(bench.items) == 60
    contexts = [json.loads(line) for line in (folder / "context.jsonl").read_text().splitlines()]
    prompt = review_prompt(bench.items[0], "Diamond Head.")
    assert prompt.startswith(f"[Context]\n{contexts[0]['caption']}\n\n[Question]\n{bench.items[0].question}\n\n")
    rules = json.loads((folder / "rule.json").read_text())
    assert prompt.endswith(f"[System]\n{rules['llava_bench_conv']['prompt']}\n\n")
    # The references against themselves, by a judge that always gives equal scores.
    even = Reviewer({item.id: "8 8" for item in bench.items})
    answers = {item.id: str(item.details["reference"]) for item in bench.items}
    scores = bench.score(answers, judge=even)
    assert {row.group: (row.num_items, row.metrics["relative score"]) for row in scores.rows} == {
        "complex": (28, 100.0),
        "conv": (17, 100.0),
        "detail": (15, 100.0),
        "all": (60, 100.0),
    }
