"""From values to places in a drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_OWN_TICKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values to places along one axis.

    On a logarithmic scale 0 has a place of its own, one step left of the smallest positive value.
    """

    low: float
    high: float
    start: float
    """Place of `low`."""
    end: float
    """Place of `high`."""
    ticks: tuple[float, ...]
    log: bool = False
    zero: float = 0.0
    """Where the logarithmic scale has its 0: a logarithm."""

    def __call__(self, value: float) -> float:
        """Return a value's place."""
        inner = (math.log(value) if value > 0 else self.zero) if self.log else value
        return self.start + (self.end - self.start) * (inner - self.low) / (self.high - self.low)


def across(values: Iterable[float], *, start: float, end: float, log: bool = False) -> Scale:
    """Return a scale for what was set: its ticks are the values themselves while they are few."""
    own = sorted(set(values))
    positive = [value for value in own if value > 0]
    zero = math.log(positive[0]) - _step(positive) if log and positive else 0.0
    inner = [math.log(value) if value > 0 else zero for value in own] if log else own
    low, high = _apart(inner)
    few = own if len(own) <= MAX_OWN_TICKS else _thinned(own) if log else _within(low, high)
    return Scale(low=low, high=high, start=start, end=end, ticks=tuple(few), log=log, zero=zero)


def along(values: Sequence[float], *, start: float, end: float, shares: bool) -> Scale:
    """Return a scale for what was measured: from 0 to 1 for shares, else from 0 or below to a round number."""
    if shares:
        values = [0.0, 1.0, *values]
    low, high = _apart([0.0, *values])
    ticks = nice_ticks(low, high)
    return Scale(low=min(low, ticks[0]), high=max(high, ticks[-1]), start=start, end=end, ticks=tuple(ticks))


def nice_ticks(low: float, high: float, at_least: int = 4) -> list[float]:
    """Return round numbers, evenly apart, of which the first and the last enclose `low` and `high`.

    Example:
        >>> nice_ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / at_least))
    step = max(factor * power for factor in (1, 2, 5) if factor * power <= span / at_least * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _step(positive: Sequence[float]) -> float:
    return math.log(positive[1] / positive[0]) if len(positive) > 1 else math.log(2)


def _within(low: float, high: float) -> list[float]:
    return [value for value in nice_ticks(low, high) if low <= value <= high]


def _thinned(values: Sequence[float]) -> list[float]:
    return list(values[:: math.ceil(len(values) / MAX_OWN_TICKS)])


def _apart(values: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest, moved apart where they are one."""
    low, high = min(values), max(values)
    if high - low > max(1e-9 * max(abs(low), abs(high)), 1e-100):
        return low, high
    return low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
