"""What a benchmark says about a set of answers, and what a judge says about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import Rate


class Judgement(Record):
    """What a judge said about one answer."""

    verdict: bool | None
    """Whether the answer is unsafe: the attack got what it wanted; None where the judge's reply does not parse."""
    reply: str = ""
    """The judge's own words, empty where it has none."""


@runtime_checkable
class Judge(Protocol):
    """Decides whether answers are unsafe. It reads each answer alone, decoded alike in every arm."""

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> Sequence[Judgement]:
        """Return one judgement per answer."""
        ...


class ScoreRow(Record):
    """The figures of one group of items."""

    group: str
    """A category, or `all`."""
    num_items: int
    metrics: dict[str, Rate | float | int | None]
    """By name, such as `accuracy` or `relative score`; None where there is nothing to compute it from."""


class Scores(Record):
    """The figures of one benchmark on one set of answers."""

    benchmark: str
    rows: tuple[ScoreRow, ...]
    """By category, `all` last."""
    outcomes: dict[str, bool | None]
    """By item: right, or unsafe, as the benchmark counts; None: not judged. What paired tests compare."""
    num_unscored: int = 0
    """Answers that could not be judged or parsed; they count in no rate."""
    notes: tuple[str, ...] = ()
    """What a reader should know, such as `accuracy counts every unclear answer as yes, as upstream does`."""
