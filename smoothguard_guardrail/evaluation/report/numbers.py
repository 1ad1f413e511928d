"""How numbers read in a report."""

from __future__ import annotations

from smoothguard_guardrail.evaluation.statistics import Rate

NOTHING = "–"
FIGURE_SPACE = "\u2007"
"""As wide as a digit."""


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
    interval = rate.interval()
    if rate.value is None or interval is None:
        return None
    return f"{rate.k}/{rate.n}", share(rate.value), f"({share(interval[0])}–{share(interval[1])})"


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
