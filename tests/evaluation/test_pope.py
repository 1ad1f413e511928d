from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation import Rate
from smoothguard_guardrail.evaluation.datasets import Pope
from smoothguard_guardrail.evaluation.datasets.base import Benchmark
from smoothguard_guardrail.evaluation.datasets.pope import SINGLE_WORD, question_object, says_yes
from smoothguard_guardrail.evaluation.datasets.pope_answers import read_llava_answers, read_upstream_answers
from tests.evaluation.benchmark_files import (
    POPE,
    POPE_ANSWERS,
    PUBLISHED,
    llava_answers,
    llava_questions,
    pope_rows,
    write_lines,
    write_picture,
    write_pope,
)

published = pytest.mark.skipif(not (PUBLISHED / "pope").is_dir(), reason="the published files are not there")


@pytest.fixture
def pope() -> Pope:
    return Pope.from_rows(POPE, complete=False)


def join(pope: Pope, folder: Path, answers: Any, questions: Any = None) -> dict[str, str]:
    return read_llava_answers(
        pope,
        write_lines(folder / "answers.jsonl", answers),
        write_lines(folder / "questions.jsonl", llava_questions() if questions is None else questions),
    )


def test_items(tmp_path: Path) -> None:
    images = tmp_path / "val2014"
    for name in ("a.jpg", "b.jpg"):
        write_picture(images / name)
    folder = write_pope(tmp_path)
    pope: Benchmark = Pope.load(folder, splits=("random", "adversarial"), suffix=SINGLE_WORD, complete=False)
    assert [item.id for item in pope.items] == [
        f"{split}/{n}" for split in ("random", "adversarial") for n in range(1, 5)
    ]
    third = pope.items[2]
    assert third.question == "Is there an umbrella in the imange?\nAnswer the question using a single word or phrase."
    assert (third.media, third.category, third.label) == ((images / "b.jpg",), "random", "yes")
    assert third.details["image"] == "b.jpg"
    assert third.details["object"] == "umbrella"
    assert all(item.details["target"] == {"yes": "No", "no": "Yes"}[str(item.label)] for item in pope.items)


def test_figures_worked_out_by_hand(pope: Pope) -> None:
    scores = pope.score(POPE_ANSWERS)
    found = {row.group: row.metrics for row in scores.rows}
    # random: yes to 1 (right), 3 (right) and 4 (wrong); no to 2 (right)
    assert found["random"] == {
        "accuracy": Rate(k=3, n=4),
        "precision": Rate(k=2, n=3),
        "recall": Rate(k=2, n=2),
        "f1": pytest.approx(0.8),
        "yes ratio": Rate(k=3, n=4),
        "unclear": 1,
    }
    # adversarial: yes to 1 (right) and 2 (wrong); no to 3 (wrong) and 4 (right)
    assert found["adversarial"] == {
        "accuracy": Rate(k=2, n=4),
        "precision": Rate(k=1, n=2),
        "recall": Rate(k=1, n=2),
        "f1": pytest.approx(0.5),
        "yes ratio": Rate(k=2, n=4),
        "unclear": 0,
    }
    assert list(found) == ["random", "adversarial", "all"]
    assert (found["all"]["accuracy"], found["all"]["f1"]) == (Rate(k=5, n=8), pytest.approx(2 / 3))
    assert {key for key, right in scores.outcomes.items() if not right} == {
        "random/4",
        "adversarial/2",
        "adversarial/3",
    }
    assert "1 answers do not say yes and count as yes, as upstream does" in scores.notes
    assert any("0.6500" in note for note in scores.notes)


def test_figures_of_nothing_are_none() -> None:
    pope = Pope.from_rows({"random": pope_rows((1, "a.jpg", "Is there a car in the image?", "no"))}, complete=False)
    metrics = pope.score({"random/1": "No"}).rows[-1].metrics
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (Rate(k=0, n=0), Rate(k=0, n=0), None)


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        ("No", False),
        ("no", False),
        ("No, it is not.", False),
        ("There is not one", False),
        ("Yes. No dog, though.", True),
        ("It is a dog. No.", True),
        ("Not that I see", True),
        ("None", True),
        ("NO", True),
        ("no\n", True),
        ("No!", True),
        ("", True),
        ("Yes, no doubt", False),
        (".no", True),
    ],
)
def test_answers_are_read_as_upstream_reads_them(text: str, yes: bool) -> None:
    assert says_yes(text) is yes


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_figures_agree_with_each_other_and_not_with_the_order(
    pairs: list[tuple[bool, bool]], order: random.Random
) -> None:
    labels = ["yes" if true else "no" for true, _ in pairs]
    rows = pope_rows(*((n, "a.jpg", f"Is there a thing {n} in the image?", label) for n, label in enumerate(labels)))
    answers = {f"random/{n}": "Yes" if said else "No" for n, (_, said) in enumerate(pairs)}
    scores = Pope.from_rows({"random": rows}, complete=False).score(answers)
    metrics: dict[str, Any] = scores.rows[-1].metrics
    assert metrics["accuracy"] == Rate.of(scores.outcomes.values()) == Rate.of(true == said for true, said in pairs)
    precision, recall = metrics["precision"].value, metrics["recall"].value
    if precision and recall:
        assert metrics["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert not metrics["f1"]
    order.shuffle(rows)
    shuffled = Pope.from_rows({"random": rows}, complete=False).score(answers)
    assert (shuffled.rows, shuffled.outcomes) == (scores.rows, scores.outcomes)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert says_yes(f"No, {text}") is False
    assert says_yes(f"Sure. {text}") is True


def test_llava_answers_join_though_ids_collide(pope: Pope, tmp_path: Path) -> None:
    answers = llava_answers()
    assert {row["question_id"] for row in answers} == {1, 2, 3, 4, 10_000_001, 10_000_002, 10_000_003, 10_000_004}
    random.Random(0).shuffle(answers)
    assert join(pope, tmp_path, answers) == POPE_ANSWERS


def test_answers_to_other_splits_are_left_out(tmp_path: Path) -> None:
    pope = Pope.from_rows({"adversarial": POPE["adversarial"]}, complete=False)
    found = join(pope, tmp_path, llava_answers())
    assert found == {key: text for key, text in POPE_ANSWERS.items() if key.startswith("adversarial/")}
    assert pope.score(found).rows[-1].metrics["accuracy"] == Rate(k=2, n=4)


def refusals() -> list[Any]:
    answers, questions = llava_answers(), llava_questions()
    colliding = [{**question, "question_id": question["question_id"] % 10_000_000} for question in questions]
    bare = [{**answer, "question_id": answer["question_id"] % 10_000_000} for answer in answers]
    moved = [{**answer, "question_id": 10_000_002} if answer["question_id"] == 2 else answer for answer in answers]
    other = [{**question, "image": "c.jpg"} if question["question_id"] == 3 else question for question in questions]
    strange = [{**question, "category": "unheard"} for question in questions]
    return [
        pytest.param(answers, colliding, r"questions.jsonl, row 5: `question_id` 1 occurs twice", id="colliding"),
        pytest.param(bare[:4] + bare[:1], questions, "row 5: the answer to adversarial/1 occurs", id="duplicate"),
        pytest.param(
            moved, questions, "row 2: its prompt is not the question of .*row 6: the ids do not match", id="moved"
        ),
        pytest.param([{**answers[0], "question_id": 77}], questions, "row 1: .* has no question 77", id="unknown"),
        pytest.param(answers, other, "row 3: no labelled question of the split 'adversarial'", id="other picture"),
        pytest.param(answers, strange, "row 1: no labelled question of the split 'unheard'", id="strange category"),
        pytest.param([{"question_id": 1}], questions, "row 1: `text` is missing; there is question_id", id="no text"),
        pytest.param([{"question_id": True, "text": "no"}], questions, "must be a number or a text", id="odd id"),
    ]


@pytest.mark.parametrize(("answers", "questions", "message"), refusals())
def test_answers_that_do_not_join_are_refused(
    pope: Pope, tmp_path: Path, answers: Any, questions: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        join(pope, tmp_path, answers, questions)


def test_bare_ids_of_another_split_are_refused_by_their_prompt(pope: Pope, tmp_path: Path) -> None:
    """Answers to `random`, numbered from 1 as its label file is, would fall to `adversarial`."""
    own = [row for row in llava_answers() if row["question_id"] > 10_000_000]
    bare = [{**row, "question_id": row["question_id"] - 10_000_000} for row in own]
    with pytest.raises(InputError, match="the ids do not match"):
        join(pope, tmp_path, bare)


def test_upstream_answers_join_by_row(tmp_path: Path) -> None:
    pope = Pope.from_rows({"random": POPE["random"]}, complete=False)
    rows = [
        {
            "question": row["text"].lower().replace("imange", "image"),
            "answer": POPE_ANSWERS[f"random/{row['question_id']}"],
        }
        for row in POPE["random"]
    ]
    found = read_upstream_answers(pope, write_lines(tmp_path / "a.json", rows))
    assert found == {key: text for key, text in POPE_ANSWERS.items() if key.startswith("random/")}
    with pytest.raises(InputError, match="3 answers, and the split 'random' has 4 labels"):
        read_upstream_answers(pope, write_lines(tmp_path / "b.json", rows[:3]))
    with pytest.raises(InputError, match=r"row 1: is about another object than random/1"):
        read_upstream_answers(pope, write_lines(tmp_path / "c.json", rows[::-1]))


def test_upstream_answers_to_several_splits_are_refused(pope: Pope, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="choose it"):
        read_upstream_answers(pope, write_lines(tmp_path / "a.json", [{"question": "?", "answer": "no"}]))


def test_missing_and_unknown_answers_are_refused(pope: Pope) -> None:
    with pytest.raises(ConfigurationError, match="1 of 8 items have no answer, such as adversarial/3"):
        pope.score({key: text for key, text in POPE_ANSWERS.items() if key != "adversarial/3"})
    with pytest.raises(ConfigurationError, match="1 answers are for items that do not exist, such as 17"):
        pope.score({**POPE_ANSWERS, "17": "yes"})


def test_a_part_says_so(pope: Pope) -> None:
    part = pope.part(["random/1", "adversarial/4"])
    scores = part.score({"random/1": "yes", "adversarial/4": "no"})
    assert scores.rows[-1].metrics["accuracy"] == Rate(k=2, n=2)
    assert "2 of 8 questions" in scores.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "maybe"}, r"random, row 2: `label` must be yes or no, got 'maybe'"),
        ({"question_id": 1}, r"random, row 2: `question_id` 1 occurs twice"),
        ({"text": 3}, r"random, row 2: `text` must be a text, got 3"),
    ],
)
def test_wrong_rows_are_refused(change: dict[str, Any], message: str) -> None:
    rows = [dict(row) for row in POPE["random"]]
    rows[1].update(change)
    with pytest.raises(InputError, match=message):
        Pope.from_rows({"random": rows}, complete=False)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    folder = write_pope(tmp_path)
    with pytest.raises(InputError, match=r"random: 4 rows, and the published file has 2910 or 3000"):
        Pope.load(folder, splits=("random",), with_media=False)
    with pytest.raises(InputError, match=r"coco_pope_popular.json cannot be read"):
        Pope.load(folder, with_media=False, complete=False)
    with pytest.raises(InputError, match=r"2 of 2 media files are missing, such as .*val2014.a.jpg"):
        Pope.load(folder, splits=("random",), complete=False)
    (folder / "coco_pope_random.json").write_text("[]")
    with pytest.raises(InputError, match=r"row 1: must be a JSON object; the file must contain one per line"):
        Pope.load(folder, splits=("random",), with_media=False, complete=False)
    (folder / "coco_pope_random.json").write_text('{"question_id": 1')
    with pytest.raises(InputError, match=r"line 1: expected a JSON value"):
        Pope.load(folder, splits=("random",), with_media=False, complete=False)


def test_pictures_outside_their_folder_are_refused(tmp_path: Path) -> None:
    rows = pope_rows((1, "../secret.jpg", "Is there a car in the image?", "no"))
    with pytest.raises(InputError, match="is not a name of a file in a folder"):
        Pope.from_rows({"random": rows}, images=tmp_path, complete=False)


@pytest.mark.parametrize("size", [2910, 3000])
def test_the_revision_is_told(size: int) -> None:
    rows = pope_rows(*((number, "a.jpg", f"Is there a thing {number} in the image?", "no") for number in range(size)))
    (note,) = Pope.from_rows({"random": rows}).notes
    assert f"{size:,} rows" in note


@given(st.sampled_from(["dog", "dining table", "hair drier"]), st.sampled_from(["image", "imange"]), st.booleans())
def test_the_object_is_found_in_any_spelling(name: str, spelling: str, suffix: bool) -> None:
    assert question_object(f"Is there a {name} in the {spelling}?" + SINGLE_WORD * suffix) == name


@published
def test_published_files() -> None:
    pope = Pope.load(PUBLISHED / "pope", with_media=False)
    assert len(pope.items) == 8910
    assert "2,910 rows" in pope.notes[0]
    always = {row.group: row.metrics for row in pope.score({item.id: "Yes" for item in pope.items}).rows}
    assert always["random"]["accuracy"] == Rate(k=1500, n=2910)
    assert always["popular"]["precision"] == Rate(k=1500, n=3000)
    assert always["adversarial"]["f1"] == pytest.approx(2 / 3)
    assert always["all"]["yes ratio"] == Rate(k=8910, n=8910)


@published
def test_published_files_join_with_llava_ids(tmp_path: Path) -> None:
    rows = {
        split: [json.loads(line) for line in (PUBLISHED / "pope" / f"coco_pope_{split}.json").read_text().splitlines()]
        for split in ("random", "popular", "adversarial")
    }
    pope = Pope.from_rows(rows)
    labels = {item.id: str(item.label) for item in pope.items}
    answers = llava_answers(labels, rows)
    random.Random(0).shuffle(answers)
    found = join(pope, tmp_path, answers, llava_questions(rows))
    assert found == labels
    assert pope.score(found).rows[-1].metrics["accuracy"] == Rate(k=8910, n=8910)
    by_bare_id = {f"{split}/{row['question_id']}": row["label"] for split in rows for row in rows["popular"]}
    wrong = [item.id for item in pope.items if by_bare_id[item.id] != item.label]
    assert len(wrong) > 100  # what a join by the bare id would get wrong
