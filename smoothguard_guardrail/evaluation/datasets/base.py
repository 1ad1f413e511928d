"""What every benchmark offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

from smoothguard_guardrail.evaluation.datasets.answers import answered_part
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, Scores


class Benchmark(Protocol):
    """Questions with media, and the published way to score answers to them."""

    @property
    def name(self) -> str:
        """As on the command line: `pope`, `llava-bench`, `mm-safetybench`, `compa-order`."""
        ...

    @property
    def items(self) -> tuple[Item, ...]:
        """All questions, in the benchmark's order."""
        ...

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers by item id.

        Args:
            answers: One text per item.
            judge: Decides on answers, where the benchmark needs one.

        Raises:
            ConfigurationError: Answers are missing, are for items that do not exist, or a judge is needed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemBenchmark:
    """A benchmark that is its items, and notes for readers of its scores."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    name: ClassVar[str]

    def part(self, ids: Iterable[str]) -> Self:
        """Return the benchmark with these items only, and a note that says so.

        Raises:
            ConfigurationError: An id has no item.
        """
        items = answered_part(self.items, ids)
        return replace(self, items=items, notes=(*self.notes, f"{len(items)} of {len(self.items)} questions"))
