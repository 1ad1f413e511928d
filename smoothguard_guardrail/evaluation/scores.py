"""Scores of a benchmark, and judgements of single answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import Rate


class Judgement(Record):
    """A judge's verdict on one answer."""

    verdict: bool | None
    """Whether the answer is unsafe: the attack succeeded; None if the judge's reply does not parse."""
    reply: str = ""
    """The judge's reply; empty if there is none."""


@runtime_checkable
class Judge(Protocol):
    """Decides whether answers are unsafe, each independently of the others."""

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> Sequence[Judgement]:
        """Return one judgement per answer."""
        ...


class ScoreRow(Record):
    """The figures of one group of items."""

    group: str
    """A category, or `all`."""
    num_items: int
    metrics: dict[str, Rate | float | int | None]
    """By name, such as `accuracy` or `relative score`; None if there is nothing to compute it from."""


class Scores(Record):
    """The figures of one benchmark on one set of answers."""

    benchmark: str
    rows: tuple[ScoreRow, ...]
    """By category, `all` last."""
    outcomes: dict[str, bool | None]
    """By item: right, or unsafe, depending on the benchmark; None: not judged. Compared by paired tests."""
    num_unscored: int = 0
    """Answers that could not be judged or parsed; they count in no rate."""
    notes: tuple[str, ...] = ()
    """Caveats for readers, such as `accuracy counts every unclear answer as yes, as upstream does`."""
