"""Rates with intervals, and tests of paired arms."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Self

from pydantic import Field, model_validator

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.records import Record


class Rate(Record):
    """k of n, with Wilson's score interval.

    k is a fraction where every item has a rate of its own (see `mean`).

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    Example:
        >>> print(Rate(k=3, n=40))
        3/40 = 0.075 (0.026-0.199)
    """

    k: int | float = Field(ge=0, allow_inf_nan=False)
    n: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} is not a rate")
        return self

    @classmethod
    def of(cls, outcomes: Iterable[bool | None]) -> Self:
        """Count the true outcomes; None, not judged, does not count."""
        judged = [outcome for outcome in outcomes if outcome is not None]
        return cls(k=sum(judged), n=len(judged))

    @classmethod
    def mean(cls, rates: Iterable[float]) -> Self:
        """Average the rates of items, each in [0, 1].

        The interval is that of items that are all 0 or 1. Rates between vary less, so it is wide enough, however alike
        the outcomes within an item are.

        Example:
            >>> print(Rate.mean([0.25, 0.0, 1.0, 0.0]))
            1.25/4 = 0.312 (0.063-0.752)
        """
        values = list(rates)
        return cls(k=math.fsum(values), n=len(values))

    @property
    def value(self) -> float | None:
        """The share; None if n is 0."""
        return self.k / self.n if self.n else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return Wilson's interval; None if n is 0."""
        if not self.n:
            return None
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        share, weight = self.k / self.n, z * z / self.n
        middle = (share + weight / 2) / (1 + weight)
        reach = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
        return max(0.0, middle - reach), min(1.0, middle + reach)

    @property
    def count(self) -> str:
        """`k/n`, with k rounded to hundredths."""
        return f"{round(self.k, 2):g}/{self.n}"

    def __str__(self) -> str:
        interval = self.interval()
        if interval is None:
            return "-"
        return f"{self.count} = {self.k / self.n:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"


class PairedTest(Record):
    """Two arms on the same items, and McNemar's exact test of whether they differ."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    """Two-sided; depends only on the discordant pairs."""

    @property
    def num_items(self) -> int:
        """Number of compared items."""
        return self.both + self.only_first + self.only_second + self.neither


def mcnemar(first: Mapping[str, bool | None], second: Mapping[str, bool | None]) -> PairedTest:
    """Compare two arms item by item with McNemar's exact test.

    Args:
        first: Outcomes of one arm by item id; items that are None in either arm are left out.
        second: Outcomes of the other arm.

    Raises:
        ConfigurationError: The arms have different items.

    Source: McNemar 1947; exact binomial form as in Fay 2010, Two-sided exact tests and matching confidence intervals.
    """
    if first.keys() != second.keys():
        raise ConfigurationError("paired arms must contain the same items")
    from scipy.stats import binomtest

    pairs = [(first[key], second[key]) for key in first]
    judged = [(one, other) for one, other in pairs if one is not None and other is not None]
    only_first = sum(one and not other for one, other in judged)
    only_second = sum(other and not one for one, other in judged)
    discordant = only_first + only_second
    return PairedTest(
        both=sum(one and other for one, other in judged),
        only_first=only_first,
        only_second=only_second,
        neither=sum(not one and not other for one, other in judged),
        p_value=float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    )
