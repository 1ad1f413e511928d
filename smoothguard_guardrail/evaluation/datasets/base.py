"""What every benchmark offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

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
