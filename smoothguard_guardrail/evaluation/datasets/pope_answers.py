"""Existing answers to POPE, in the two common layouts; ids are not trusted on their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.pope import SPLITS, Pope, question_object
from smoothguard_guardrail.evaluation.datasets.rows import Row, add_unique, by_key, read_json_lines
from smoothguard_guardrail.evaluation.items import Item


def read_llava_answers(pope: Pope, answers: Path, questions: Path) -> dict[str, str]:
    """Read LLaVA's layout: `question_id`, `prompt`, `text`, next to its merged question file.

    The question file defines the ids: `question_id`, `image`, `text`, `category`. Answers are joined by category, image
    and object; those to splits that `pope` does not have are left out.

    Args:
        pope: The labelled questions.
        answers: JSON lines, one per answer.
        questions: JSON lines, one per question of all splits, with ids that are unique over all of them.

    Raises:
        InputError: An id occurs twice, an answer's id or prompt is not in the question file, or a question is not
            among the labelled ones.
    """
    asked = by_key(read_json_lines(questions), "question_id")
    targets = _by_image_and_object(pope.items)
    splits = {item.category for item in pope.items}
    found: dict[str, str] = {}
    for row in read_json_lines(answers):
        key = row.key("question_id")
        if key not in asked:
            raise InputError(f"{row.where}: {questions} has no question {key}")
        question = asked[key]
        category = question.text("category")
        if category not in splits and category in SPLITS:
            continue
        _check_prompt(row, question)
        target = targets.get((category, question.text("image"), question_object(question.text("text"))))
        if target is None:
            raise InputError(
                f"{question.where}: no labelled question of the split {category!r} is about this image and object; "
                "the labels may be of another revision"
            )
        add_unique(found, target, row.text("text"), row=row, what="the answer to")
    return found


def read_upstream_answers(pope: Pope, answers: Path) -> dict[str, str]:
    """Read upstream's layout: rows of `question` and `answer`, in the order of one split's label file.

    The rows have neither image nor id and are joined by their order; the questions must agree row by row.

    Args:
        pope: The labelled questions of one split.
        answers: JSON lines, one per answer.

    Raises:
        ConfigurationError: `pope` has more than one split.
        InputError: There are more or fewer rows than labels, or a row is about another object than its label.
    """
    splits = {item.category for item in pope.items}
    if len(splits) != 1:
        raise ConfigurationError("rows of `question` and `answer` are in the order of one split: choose it")
    rows = read_json_lines(answers)
    if len(rows) != len(pope.items):
        raise InputError(f"{answers}: {len(rows)} answers, and the split {splits.pop()!r} has {len(pope.items)} labels")
    for row, item in zip(rows, pope.items, strict=True):
        if question_object(row.text("question")) != item.details["object"]:
            raise InputError(f"{row.where}: is about another object than {item.id}: {item.question!r}")
    return {item.id: row.text("answer") for row, item in zip(rows, pope.items, strict=True)}


def is_upstream_layout(answers: Path) -> bool:
    """Whether a file has upstream's rows of `question` and `answer`.

    Raises:
        InputError: The file cannot be read.
    """
    return {"question", "answer"} <= read_json_lines(answers)[0].values.keys()


def _by_image_and_object(items: Sequence[Item]) -> dict[tuple[str, str, str], str]:
    found: dict[tuple[str, str, str], str] = {}
    for item in items:
        key = (item.category, str(item.details["image"]), str(item.details["object"]))
        if key in found:
            raise InputError(
                f"{found[key]} and {item.id} ask about the same object in the same image: answers cannot be joined"
            )
        found[key] = item.id
    return found


def _check_prompt(answer: Row, question: Row) -> None:
    if "prompt" in answer.values and question_object(answer.text("prompt")) != question_object(question.text("text")):
        raise InputError(f"{answer.where}: its prompt is not the question of {question.where}: the ids do not match")
