"""Rates with intervals, and tests of paired arms."""

from __future__ import annotations

import math
from collections import Counter
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
        return (max(0.0, middle - reach) if self.k else 0.0), (min(1.0, middle + reach) if self.k < self.n else 1.0)

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

    @property
    def difference(self) -> float | None:
        """Share true in the first arm minus the share true in the second; None without items."""
        return (self.only_first - self.only_second) / self.num_items if self.num_items else None

    def difference_interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return an interval of the difference of the two shares, which allows for the pairing; None without items.

        Wilson's intervals of both shares, combined with the correlation of the pairs.

        Source: Newcombe 1998, Improved confidence intervals for the difference between binomial proportions based on
        paired data, method 10.

        Example:
            >>> test = PairedTest(both=36, only_first=12, only_second=2, neither=0, p_value=0.013)
            >>> [round(end, 4) for end in test.difference_interval()]
            [0.0569, 0.3404]
        """
        n, difference = self.num_items, self.difference
        if difference is None:
            return None
        first, second = (Rate(k=self.both + only, n=n) for only in (self.only_first, self.only_second))
        (low, high), (other_low, other_high) = _ends(first, confidence), _ends(second, confidence)
        p, q = first.k / n, second.k / n
        phi = self._correlation()

        def length(one: float, other: float) -> float:
            return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

        return difference - length(p - low, other_high - q), difference + length(high - p, q - other_low)

    def _correlation(self) -> float:
        """Return the correlation of the pairs; where it is positive, with Newcombe's correction for continuity."""
        margins = (
            (self.both + self.only_first)
            * (self.only_second + self.neither)
            * (self.both + self.only_second)
            * (self.only_first + self.neither)
        )
        if not margins:
            return 0.0
        surplus: float = self.both * self.neither - self.only_first * self.only_second
        if surplus > 0:
            surplus = max(0.0, surplus - self.num_items / 2)
        return surplus / math.sqrt(margins)


def _ends(rate: Rate, confidence: float) -> tuple[float, float]:
    interval = rate.interval(confidence)
    return (0.0, 1.0) if interval is None else interval


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

    counts = Counter((first[key], second[key]) for key in first)
    only_first, only_second = counts[True, False], counts[False, True]
    discordant = only_first + only_second
    return PairedTest(
        both=counts[True, True],
        only_first=only_first,
        only_second=only_second,
        neither=counts[False, False],
        p_value=float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    )
