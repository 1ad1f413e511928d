"""The interface of benchmarks."""

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
        """The command line's name: `pope`, `llava-bench`, `mm-safetybench`, `compa-order`."""
        ...

    @property
    def items(self) -> tuple[Item, ...]:
        """All questions, in the benchmark's order."""
        ...

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers by item id.

        Args:
            answers: One text per item.
            judge: Judges answers if the benchmark needs it.

        Raises:
            ConfigurationError: Answers are missing, are for items that do not exist, or a required judge is missing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemBenchmark:
    """A benchmark of items, with notes on its scores."""

    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    name: ClassVar[str]

    def part(self, ids: Iterable[str]) -> Self:
        """Return the benchmark with only these items, and a note that says so.

        Raises:
            ConfigurationError: An id has no item.
        """
        items = answered_part(self.items, ids)
        return replace(self, items=items, notes=(*self.notes, f"{len(items)} of {len(self.items)} questions"))
