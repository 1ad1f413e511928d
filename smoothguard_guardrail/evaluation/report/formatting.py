"""How numbers and text look in a report."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from markupsafe import Markup

MISSING: Final = "–"
VISIBLE_FORMATS: Final = "\n\t\u200c\u200d"
"""Invisible characters that text needs: line ends, tabs, and joiners of letters and emoji."""
INVISIBLE: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
MARKS: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?=\S)(?P<strong>[^*]+)(?<=\S)\*\*"
    r"|(?<![\w*])\*(?=\S)(?P<em>[^*]+)(?<=\S)\*(?![\w*])"
)


@lru_cache(maxsize=4096)
def interval(rate: Rate) -> tuple[float, float] | None:
    """Return Wilson's 95 % interval, computed once per rate; None for a rate of 0 items."""
    return rate.interval()


def number_text(value: float) -> str:
    """Return a number in about three digits.

    Example:
        >>> [number_text(value) for value in (1234, 0.5, 0.00012, 1e9)]
        ['1,234', '0.500', '0.00012', '1e+09']
    """
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def rate_parts(rate: Rate) -> tuple[str, str, str] | None:
    """Return the counts, the share and its interval; None for a rate of 0 items.

    Only the counts vary in width, so right-aligned rates line up at every part.

    Example:
        >>> rate_parts(Rate(k=3, n=40))
        ('3/40', '0.075', '(0.026–0.199)')
    """
    ends = interval(rate)
    if rate.value is None or ends is None:
        return None
    return rate.count, f"{rate.value:.3f}", f"({ends[0]:.3f}–{ends[1]:.3f})"


def cell_text(cell: Rate | float | int | str | None) -> str:
    """Return a table cell as plain text.

    Example:
        >>> cell_text(Rate(k=3, n=40)), cell_text(None)
        ('3/40 = 0.075 (0.026–0.199)', '–')
    """
    if isinstance(cell, Rate):
        parts = rate_parts(cell)
        return MISSING if parts is None else f"{parts[0]} = {parts[1]} {parts[2]}"
    if cell is None:
        return MISSING
    return cell if isinstance(cell, str) else number_text(cell)


def visible(text: str) -> str:
    r"""Replace invisible characters, and those that reorder text, by their code points.

    Example:
        >>> visible("a \u202e b")
        'a [U+202E] b'
    """
    text = text.replace("\r\n", "\n")
    if text.isprintable():
        return text
    return "".join(f"[U+{ord(each):04X}]" if _is_invisible(each) else each for each in text)


def inline_markup(text: str) -> Markup:
    """Return a paragraph as HTML: `*emphasis*`, `**strong**` and `` `code` `` are the only markup, the rest is escaped.

    Example:
        >>> print(inline_markup("*Most* of `a*b*c` is <b>"))
        <em>Most</em> of <code>a*b*c</code> is &lt;b&gt;
    """
    from markupsafe import Markup, escape

    parts: list[Markup] = []
    start = 0
    for found in MARKS.finditer(text):
        tag = found.lastgroup or "em"
        inner = escape(visible(found[tag])) if tag == "code" else inline_markup(found[tag])
        parts += [escape(visible(text[start : found.start()])), Markup("<{0}>{1}</{0}>").format(tag, inner)]
        start = found.end()
    return Markup("").join([*parts, escape(visible(text[start:]))])


def _is_invisible(character: str) -> bool:
    return character not in VISIBLE_FORMATS and unicodedata.category(character) in INVISIBLE
