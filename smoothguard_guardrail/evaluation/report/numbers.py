"""How numbers read in a report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from smoothguard_guardrail.evaluation.statistics import Rate

NOTHING = "–"
FIGURE_SPACE = "\u2007"
"""As wide as a digit."""
PUNCTUATION_SPACE = "\u2008"
"""As wide as a point."""


@lru_cache(maxsize=4096)
def interval(rate: Rate) -> tuple[float, float] | None:
    """Return Wilson's interval, worked out once per rate; None of none."""
    return rate.interval()


def at_the_point(texts: Sequence[str]) -> list[str]:
    """Pad numbers on the right such that their points stand below each other when their right ends do.

    Example:
        >>> [len(text) for text in at_the_point(["11", "7.300", "–"])]
        [6, 5, 1]
    """
    tails = {text: text.partition(".")[2] for text in texts if "e" not in text and text != NOTHING}
    longest = max(map(len, tails.values()), default=0)
    return [text + _tail_space(text, longest - len(tails[text])) if text in tails else text for text in texts]


def _tail_space(text: str, missing: int) -> str:
    point = PUNCTUATION_SPACE if missing and "." not in text else ""
    return point + FIGURE_SPACE * missing


def plain(value: float) -> str:
    """Return a number in about three digits.

    Example:
        >>> [plain(value) for value in (1234, 0.5, 0.00012, 1e9)]
        ['1,234', '0.500', '0.00012', '1e+09']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def tick(value: float) -> str:
    """Return a number as short as it gets without losing what tells it from others.

    Example:
        >>> [tick(value) for value in (0.0, 0.25, 16.0, 1e-05)]
        ['0', '0.25', '16', '1e-05']
    """
    return f"{value:.6g}"


def share(value: float) -> str:
    """Return a share in three decimals, without the zero that says nothing.

    Example:
        >>> share(0.0751), share(1.0)
        ('.075', '1.000')
    """
    return f"{value:.3f}".removeprefix("0")


def rate_parts(rate: Rate) -> tuple[str, str, str] | None:
    """Return `k/n`, the share and its interval; None for a rate of none.

    Example:
        >>> rate_parts(Rate(k=3, n=40))
        ('3/40', '.075', '(.026–.199)')
    """
    ends = interval(rate)
    if rate.value is None or ends is None:
        return None
    return f"{rate.k}/{rate.n}", share(rate.value), f"({share(ends[0])}–{share(ends[1])})"


def cell_text(cell: Rate | float | int | str | None) -> str:
    """Return a cell as plain text.

    Example:
        >>> cell_text(Rate(k=3, n=40)), cell_text(None)
        ('3/40 = .075 (.026–.199)', '–')
    """
    if isinstance(cell, Rate):
        parts = rate_parts(cell)
        return NOTHING if parts is None else f"{parts[0]} = {parts[1]} {parts[2]}"
    if cell is None:
        return NOTHING
    return cell if isinstance(cell, str) else plain(cell)
