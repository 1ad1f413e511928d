"""Tables: rates aligned at every part and drawn beside their figures."""

from __future__ import annotations

from collections.abc import Sequence

from smoothguard_guardrail.evaluation.report.content import Cell, Table
from smoothguard_guardrail.evaluation.report.markup import Html, element, joined, marked_up
from smoothguard_guardrail.evaluation.report.numbers import FIGURE_SPACE, at_the_point, cell_text, interval, rate_parts
from smoothguard_guardrail.evaluation.statistics import Rate

GLYPH_WIDTH = 64
GLYPH_HEIGHT = 10


def table(content: Table, key: str) -> Html:
    """Return a table in a frame that scrolls sideways, so that no page does.

    Args:
        content: What it shows.
        key: Unique within the page.
    """
    columns = [_column([row[place] for row in content.rows]) for place in range(len(content.columns))]
    kinds = ["text" if place == 0 else _kind(content, place) for place in range(len(content.columns))]
    head = element(
        "tr",
        *(element("th", name, scope="col", class_=kind) for name, kind in zip(content.columns, kinds, strict=True)),
    )
    body = [_row([cells[number] for cells in columns], kinds) for number in range(len(content.rows))]
    grid = element("table", element("thead", head), element("tbody", *body), aria_labelledby=f"{key}-title")
    return element(
        "figure",
        element("figcaption", content.title, id=f"{key}-title"),
        element("div", grid, class_="scroll", tabindex="0", role="region", aria_labelledby=f"{key}-title"),
        element("p", marked_up(content.note), class_="note") if content.note else None,
        id=key,
        class_="table",
    )


def glyph(rate: Rate) -> Html | None:
    """Return a rate's share and interval, drawn on a line from 0 to 1; None for a rate of none."""
    ends = interval(rate)
    if rate.value is None or ends is None:
        return None
    middle = GLYPH_HEIGHT / 2
    span = GLYPH_WIDTH - GLYPH_HEIGHT
    low, high, share = (middle + span * value for value in (*ends, rate.value))
    return element(
        "svg",
        element("line", x1=middle, x2=middle + span, y1=middle, y2=middle, class_="scale"),
        element("line", x1=low, x2=high, y1=middle, y2=middle, class_="interval"),
        element("circle", cx=share, cy=middle, r=2.5),
        viewBox=f"0 0 {GLYPH_WIDTH} {GLYPH_HEIGHT}",
        class_="glyph",
        aria_hidden="true",
    )


def _kind(content: Table, place: int) -> str:
    cells = [row[place] for row in content.rows if row[place] is not None]
    if any(isinstance(cell, Rate) for cell in cells):
        return "rate"
    return "text" if not cells or any(isinstance(cell, str) for cell in cells) else "number"


def _row(cells: Sequence[Html], kinds: Sequence[str]) -> Html:
    """The first cell names the row."""
    return element(
        "tr",
        *(
            element("td", cell, class_=kind) if place else element("th", cell, scope="row")
            for place, (cell, kind) in enumerate(zip(cells, kinds, strict=True))
        ),
    )


def _column(cells: Sequence[Cell]) -> list[Html]:
    """Return a column's cells; the parts of its rates are padded to one width, with spaces as wide as digits."""
    rates = [parts for cell in cells if isinstance(cell, Rate) and (parts := rate_parts(cell))]
    widths = [max((len(parts[place]) for parts in rates), default=0) for place in range(3)]
    if all(cell is None or isinstance(cell, (int, float)) for cell in cells):
        return [joined(text) for text in at_the_point([cell_text(cell) for cell in cells])]
    return [_cell(cell, widths) for cell in cells]


def _cell(cell: Cell, widths: Sequence[int]) -> Html:
    parts = rate_parts(cell) if isinstance(cell, Rate) else None
    if not isinstance(cell, Rate) or parts is None:
        return joined(cell_text(cell))
    counts, share, ends = (part.rjust(width, FIGURE_SPACE) for part, width in zip(parts, widths, strict=True))
    figures = joined(
        element("span", f"{counts} = ", class_="part"),
        element("strong", share),
        element("span", f" {ends}", class_="part"),
    )
    return joined(element("span", figures, class_="figures"), glyph(cell))
