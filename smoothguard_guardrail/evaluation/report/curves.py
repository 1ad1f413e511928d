"""Curves as inline SVG, with the same figures as a table. Series differ in colour, in dashes and in marks."""

from __future__ import annotations

from collections.abc import Sequence

from smoothguard_guardrail.evaluation.report.content import Curve, Point, Series, Table
from smoothguard_guardrail.evaluation.report.markup import Html, element, joined, marked_up
from smoothguard_guardrail.evaluation.report.numbers import cell_text, interval, tick
from smoothguard_guardrail.evaluation.report.scales import Scale, across, along
from smoothguard_guardrail.evaluation.report.tables import table
from smoothguard_guardrail.evaluation.statistics import Rate

WIDTH, HEIGHT = 480, 268
LEFT, RIGHT, TOP, BOTTOM = 44, 474, 8, 244
NUM_COLOURS = 8
DASHES = ("none", "7 3", "2 3", "9 3 2 3")
MARKS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.8L4.6 3.4H-4.6z",
    "M0 -5L5 0L0 5L-5 0z",
    "M0 4.8L4.6 -3.4H-4.6z",
)
MIN_TICK_GAP = 24
"""Least distance between two labels of the horizontal axis, in units of the drawing."""


def curve(content: Curve, key: str) -> Html:
    """Return a figure: the drawing, its legend, and its figures as a table to open.

    Args:
        content: What it shows.
        key: Unique within the page.
    """
    points = [point for series in content.series for point in series.points if _value(point) is not None]
    caption = element("figcaption", content.title, id=f"{key}-title")
    note = element("p", marked_up(content.note), class_="note") if content.note else None
    if not points:
        return element("figure", caption, element("p", "Nothing was measured.", class_="note"), note, id=key)
    details = element("details", element("summary", "The figures as a table"), table(_as_table(content), f"{key}-data"))
    across_label = f"{content.x_label} (logarithmic)" if content.log_x else content.x_label
    drawing = joined(
        element("p", content.y_label, class_="vertical", aria_hidden="true"),
        _drawing(content, points, key),
        element("p", across_label, class_="horizontal", aria_hidden="true"),
    )
    return element("figure", caption, drawing, _legend(content), note, details, id=key, class_="drawing")


def _drawing(content: Curve, points: Sequence[Point], key: str) -> Html:
    x = across([point.x for point in points], start=LEFT + 14, end=RIGHT - 10, log=content.log_x)
    shares = any(isinstance(point.y, Rate) for point in points)
    y = along([_value(point) or 0.0 for point in points], start=BOTTOM, end=TOP, shares=shares)
    names = ", ".join(series.name for series in content.series)
    told = f"{content.y_label} over {content.x_label}, for {names}. The figures follow as a table."
    return element(
        "svg",
        element("title", content.title, id=f"{key}-name"),
        element("desc", told, id=f"{key}-told"),
        _axes(x, y),
        *(_band(series, number, x, y) for number, series in enumerate(content.series)),
        *(_line(series, number, x, y) for number, series in enumerate(content.series)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{key}-name {key}-told",
    )


def _axes(x: Scale, y: Scale) -> Html:
    parts = []
    for value in y.ticks:
        place = y(value)
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=place, y2=place, class_="grid"))
        parts.append(element("text", tick(value), x=LEFT - 7, y=place + 4, class_="tick end"))
    last = -float(MIN_TICK_GAP)
    for value in x.ticks:
        place = x(value)
        parts.append(element("line", x1=place, x2=place, y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        if place - last >= MIN_TICK_GAP:
            parts.append(element("text", tick(value), x=place, y=BOTTOM + 18, class_="tick middle"))
            last = place
    return joined(
        *parts,
        element("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"),
    )


def _band(series: Series, number: int, x: Scale, y: Scale) -> Html | None:
    """Return the area between the ends of the intervals."""
    edges = [(x(point.x), *map(y, ends)) for point in series.points if (ends := _interval(point))]
    if len(edges) < 2:
        return None
    upper = [f"{place:.1f},{high:.1f}" for place, _, high in edges]
    lower = [f"{place:.1f},{low:.1f}" for place, low, _ in reversed(edges)]
    return element("polygon", points=" ".join(upper + lower), class_=f"band c{number % NUM_COLOURS}")


def _line(series: Series, number: int, x: Scale, y: Scale) -> Html:
    known = [(point, value) for point in series.points if (value := _value(point)) is not None]
    path = " ".join(f"{x(point.x):.1f},{y(value):.1f}" for point, value in known)
    marks = [_mark(series.name, point, number, x(point.x), y) for point, _ in known]
    dash = DASHES[number % len(DASHES)]
    line = element("polyline", points=path, class_="line", stroke_dasharray=dash)
    return element("g", line, *marks, class_=f"c{number % NUM_COLOURS}")


def _mark(name: str, point: Point, number: int, place: float, y: Scale) -> Html:
    """Return a point with its interval; a pointer that rests on it reads its figures."""
    ends = _interval(point)
    whisker = None
    if ends:
        low, high = map(y, ends)
        reach = f"M{place:.1f} {low:.1f}V{high:.1f}M{place - 3:.1f} {low:.1f}h6M{place - 3:.1f} {high:.1f}h6"
        whisker = element("path", d=reach, class_="whisker")
    height = y(_value(point) or 0.0)
    mark = element(
        "path", d=MARKS[number % len(MARKS)], transform=f"translate({place:.1f} {height:.1f})", class_="mark"
    )
    told = element("title", f"{name}, {tick(point.x)}: {cell_text(point.y)}")
    return element("g", told, whisker, mark)


def _legend(content: Curve) -> Html:
    return element("ul", *(_key(series.name, number) for number, series in enumerate(content.series)), class_="legend")


def _key(name: str, number: int) -> Html:
    swatch = element(
        "svg",
        element("line", x1=1, x2=35, y1=7, y2=7, class_="line", stroke_dasharray=DASHES[number % len(DASHES)]),
        element("path", d=MARKS[number % len(MARKS)], transform="translate(18 7)", class_="mark"),
        viewBox="0 0 36 14",
        aria_hidden="true",
        class_=f"swatch c{number % NUM_COLOURS}",
    )
    return element("li", swatch, name)


def _as_table(content: Curve) -> Table:
    found = [{point.x: point.y for point in series.points} for series in content.series]
    xs = sorted({x for points in found for x in points})
    return Table(
        title=f"{content.title}: {content.y_label}",
        columns=(content.x_label, *(series.name for series in content.series)),
        rows=tuple((tick(x), *(points.get(x) for points in found)) for x in xs),
    )


def _value(point: Point) -> float | None:
    return point.y.value if isinstance(point.y, Rate) else point.y


def _interval(point: Point) -> tuple[float, float] | None:
    return interval(point.y) if isinstance(point.y, Rate) else None
