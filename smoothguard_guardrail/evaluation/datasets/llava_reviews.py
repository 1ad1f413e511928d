"""Reviews of answers to LLaVA-Bench, and the relative score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.answers import in_order
from smoothguard_guardrail.evaluation.datasets.rows import PARTS, Row, by_key, read_json_lines
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.scores import ScoreRow, Scores

CATEGORY_SIZES = {"complex": 28, "conv": 17, "detail": 15}
"""Questions by category; 60 in all."""

_FAILED = [-1, -1]
_LEAST, _MOST = 1.0, 10.0


class Review(Record):
    """A judge's review of two answers to one question."""

    item_id: str
    category: str
    scores: tuple[float, float] | None
    """Of the reference and of the answer, each in [1, 10]; None where the judge's reply does not parse."""
    content: str = ""
    """The judge's reply."""


def parse_review(reply: str) -> tuple[float, float] | None:
    r"""Read the two scores, of reference and answer, on the first line of a judge's reply.

    Returns None unless the line is two numbers in [1, 10] and nothing else. They may be separated by spaces, a comma,
    or both; upstream rejects a comma with a space.

    Example:
        >>> parse_review("8 6.5\nAssistant 1 is right."), parse_review("8, 7"), parse_review("Both are good: 8 8")
        ((8.0, 6.5), (8.0, 7.0), None)
    """
    first, _, _ = reply.partition("\n")
    words = first.replace(",", " ").split()
    if len(words) != 2 or not all(re.fullmatch(r"[0-9]+(\.[0-9]+)?", word) for word in words):
        return None
    return _in_range(float(words[0]), float(words[1]))


def read_reviews(path: Path) -> list[Review]:
    """Read a review file as upstream writes it: `question_id`, `category`, `content` and `tuple`.

    Scores of [-1, -1], upstream's mark of a reply that did not parse, and scores outside [1, 10] become None. Where
    there is no `tuple`, `content` is parsed.

    Raises:
        InputError: The file cannot be read, a question is reviewed twice, or a field is missing or wrong.
    """
    return [
        Review(
            item_id=key,
            category=row.text("category").removeprefix("llava_bench_"),
            scores=_stored(row),
            content=row.text("content") if "content" in row.values else "",
        )
        for key, row in by_key(read_json_lines(path), "question_id").items()
    ]


def read_question_items(path: Path, *, complete: bool = True) -> list[Item]:
    """Read only `questions.jsonl`, with which reviews are joined: ids, questions and categories.

    Args:
        path: The file.
        complete: Refuse anything but the 60 published questions.

    Raises:
        InputError: The file cannot be read, an id occurs twice, or a row or a field is missing or wrong.
    """
    items = [
        Item(id=key, question=row.text("text"), category=row.text("category"))
        for key, row in by_key(read_json_lines(path), "question_id").items()
    ]
    if complete:
        check_sizes(str(path), [item.category for item in items])
    return items


def check_sizes(what: str, categories: Iterable[str]) -> None:
    """Check that the categories are those of the 60 published questions.

    Raises:
        InputError: They are not.
    """
    sizes = dict(sorted(Counter(categories).items()))
    if sizes != CATEGORY_SIZES:
        raise InputError(
            f"{what}: {sizes or 'nothing'} by category, and the published ones are {CATEGORY_SIZES}; {PARTS}"
        )


def score_reviews(
    reviews: Sequence[Review], *, items: Sequence[Item] | None = None, notes: Sequence[str] = ()
) -> Scores:
    """Score reviews: 100 times the mean score of the answers over that of the references, by category and overall.

    Reviews without scores are counted and left out. An outcome is whether the answer scored at least as high as the
    reference.

    Args:
        reviews: One per question.
        items: The benchmark's; None: those that the reviews are about.
        notes: Passed on to the scores.

    Raises:
        ConfigurationError: With items: reviews are missing, are for items that do not exist, or name another category.
            Without items: there are no reviews.
    """
    if items is None:
        notes = (*notes, f"{len(reviews)} reviews, not compared with the benchmark's questions")
    else:
        in_order(items, {review.item_id: "" for review in reviews})
        categories = {item.id: item.category for item in items}
        for review in reviews:
            if review.category != categories[review.item_id]:
                raise ConfigurationError(
                    f"the review of {review.item_id} is of the category {review.category!r}, but the question of "
                    f"{categories[review.item_id]!r}"
                )
    if not reviews:
        raise ConfigurationError("there are no reviews")
    groups = {
        name: [each for each in reviews if each.category == name]
        for name in sorted({each.category for each in reviews})
    }
    unscored = sum(review.scores is None for review in reviews)
    return Scores(
        benchmark="llava-bench",
        rows=tuple(_row(name, found) for name, found in {**groups, "all": list(reviews)}.items()),
        outcomes={each.item_id: each.scores and each.scores[1] >= each.scores[0] for each in reviews},
        num_unscored=unscored,
        notes=(*notes, *([f"{unscored} reviews do not parse and count in no score"] if unscored else [])),
    )


def _row(group: str, reviews: Sequence[Review]) -> ScoreRow:
    scores = [review.scores for review in reviews if review.scores is not None]
    reference, answer = (sum(pair[place] for pair in scores) / len(scores) if scores else None for place in (0, 1))
    return ScoreRow(
        group=group,
        num_items=len(reviews),
        metrics={
            "relative score": 100 * answer / reference if reference and answer is not None else None,
            "mean score": answer,
            "mean score of the reference": reference,
            "unscored": len(reviews) - len(scores),
        },
    )


def _stored(row: Row) -> tuple[float, float] | None:
    if "tuple" not in row.values:
        return parse_review(row.text("content"))
    found: Any = row.values["tuple"]
    if (
        not isinstance(found, list)
        or len(found) != 2
        or any(isinstance(score, bool) or not isinstance(score, int | float) for score in found)
    ):
        raise InputError(f"{row.where}: `tuple` must be two numbers, got {found!r}")
    return None if found == _FAILED else _in_range(*found)


def _in_range(reference: float, answer: float) -> tuple[float, float] | None:
    fits = all(_LEAST <= score <= _MOST for score in (reference, answer))
    return (float(reference), float(answer)) if fits else None
