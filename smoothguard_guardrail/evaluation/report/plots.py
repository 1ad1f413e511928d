"""Curves and cluster maps as inline SVG, drawn with matplotlib.

Titles, labels and legends are HTML: in a drawing are only numbers, and tooltips that the SVG writer escapes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.evaluation.report.content import ClusterMap, Curve, Point, Series
from smoothguard_guardrail.evaluation.report.formatting import cell_text, interval, visible
from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

WIDTH: Final = 480
"""Width of a drawing in points; on the page it is as wide as its column."""
NUM_COLOURS: Final = 8
LINE_STYLES: Final = ("-", "--", ":", "-.")
MARKERS: Final = "os^Dv"
MAX_TICKS: Final = 8
MANY_POINTS: Final = 20
"""Points of a line above which their markers are small."""
MIN_TICK_GAP: Final = 0.05
"""Least distance of two tick labels, as a share of the axis."""
SMALLEST_LOG: Final = 1e-9
"""Values below it share the place of 0 on a logarithmic axis."""
MAX_DISC: Final = 72.0
MAX_SINGLE_DISC: Final = 28.0
"""Largest diameter, in points, of a disc for one answer."""
MIN_NUMBERED: Final = 16.0
"""Diameter, in points, from which a disc has room for its number."""
INK, QUIET, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES: Final = tuple(f"#0001{number:02x}" for number in range(NUM_COLOURS))
VARIABLES: Final = {INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper"} | {
    colour: f"c{number}" for number, colour in enumerate(SERIES)
}
"""The page's variable, with a light and a dark value, that each of these stand-in colours becomes."""
STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "smoothguard",
    "font.size": 12,
    "text.color": QUIET,
    "axes.edgecolor": QUIET,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "figure.facecolor": "none",
}


@contextmanager
def drawing_style(style: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Draw with matplotlib's defaults and these settings; the user's own settings do not apply.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    try:
        from matplotlib import style as styles
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "eval") from error
    with styles.context(["default", dict(style or {})]):
        yield


def draw_curve(curve: Curve, key: str) -> Markup | None:
    """Return the lines of a curve with their intervals as SVG; None if there are no points.

    Args:
        curve: What to draw.
        key: Prefix of the ids in the drawing, unique within the page.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    points = [point for series in curve.series for point in series.points if _value(point) is not None]
    if not points:
        return None
    with drawing_style(STYLE):
        figure = new_figure(WIDTH, 268)
        axes = figure.add_axes((0.1, 0.11, 0.88, 0.85))
        axes.grid(axis="y")
        xs = sorted({point.x for point in points})
        if curve.log_x:
            positive = [x for x in xs if x > SMALLEST_LOG]
            axes.set_xscale("symlog", linthresh=positive[0] if positive else 1.0)
        draw = _draw_bars if curve.style == "bars" else _draw_series
        tooltips = {f"series{number}": draw(axes, curve, number) for number in range(len(curve.series))}
        if not curve.x_is_time and any(isinstance(point.y, Rate) for point in points):
            axes.axhspan(0, 1, alpha=0)  # makes room for all shares
        axes.update_datalim([(xs[0], 0)])
        axes.autoscale_view()
        if curve.x_is_time:
            _label_times(axes)
        elif ticks := _own_ticks(xs, curve.log_x):
            axes.set_xticks(ticks, [f"{tick:.6g}" for tick in ticks])
            axes.minorticks_off()
        return _svg(figure, key, tooltips)


def draw_swatch(number: int, key: str, *, is_line: bool = True) -> Markup:
    """Return the line, if it has one, and the marker of a curve's series as SVG, for a legend."""
    from markupsafe import Markup

    return Markup(_swatch(number, is_line).replace("swatch-", f"{key}-"))  # noqa: S704 - only the ids change


@lru_cache
def _swatch(number: int, is_line: bool) -> str:
    with drawing_style(STYLE):
        figure = new_figure(36, 14)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-1, 1), ylim=(-1, 1))
        axes.set_axis_off()
        colour, line, marker = _look(number)
        if is_line:
            axes.plot([-0.95, 0.95], [0, 0], color=colour, linestyle=line, linewidth=2)
        axes.plot([0], [0], color=colour, marker=marker, markersize=7)
        return _svg(figure, "swatch", {})


def draw_map(cluster_map: ClusterMap, order: Sequence[int], colours: Mapping[int, int], key: str) -> Markup:
    """Return discs as large as the answers are frequent, as SVG; both axes have one scale.

    Args:
        cluster_map: What to draw.
        order: Indices of the wordings in the order in which they are numbered.
        colours: Number of each cluster's colour.
        key: Prefix of the ids in the drawing, unique within the page.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    unit = min(MAX_SINGLE_DISC, MAX_DISC / math.sqrt(max(cluster_map.counts)))
    with drawing_style(STYLE):
        figure = new_figure(WIDTH, 280)
        axes = figure.add_axes((0.1, 0.16, 0.8, 0.68))
        axes.set_axis_off()
        axes.set(**_equal_limits(cluster_map.positions, ratio=axes.bbox.width / axes.bbox.height))
        tooltips = {}
        for number, index in enumerate(order, start=1):
            x, y = cluster_map.positions[index]
            label, count = cluster_map.labels[index], cluster_map.counts[index]
            diameter = unit * math.sqrt(count)
            colour = SERIES[colours[label] % NUM_COLOURS]
            disc: dict[str, Any] = {"clip_on": False, "zorder": 2 * number}
            if label == cluster_map.winner:
                axes.scatter(x, y, (diameter + 5) ** 2, facecolors="none", edgecolors=INK, gid=f"rim{number}", **disc)
            axes.scatter(x, y, diameter**2, c=colour, linewidths=0, gid=f"disc{number}", **disc)
            tooltips[f"disc{number}"] = [f"{count} × {cluster_map.texts[index]}"]
            inside = diameter >= MIN_NUMBERED
            axes.annotate(
                str(number),
                (x, y),
                xytext=(0 if inside else diameter / 2 + 4, 0),
                textcoords="offset points",
                ha="center" if inside else "left",
                va="center_baseline",
                color=PAPER if inside else QUIET,
                weight="bold" if inside else "normal",
                zorder=2 * number + 1,
            )
        return _svg(figure, key, tooltips)


def _draw_series(axes: Any, curve: Curve, number: int) -> list[str]:
    """Draw a line, its band and its whiskers, and return a tooltip for every point."""
    series = curve.series[number]
    colour, line, marker = _look(number)
    known = [(point, value) for point in series.points if (value := _value(point)) is not None]
    ranges = [(point.x, *ends) for point, _ in known if isinstance(point.y, Rate) and (ends := interval(point.y))]
    if ranges:
        places, low, high = zip(*ranges, strict=True)
        if series.is_line and len(set(places)) > 1:  # one point has no band
            axes.fill_between(places, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.vlines(places, low, high, color=colour, linewidth=1.2, alpha=0.6)
    xs, values = [point.x for point, _ in known], [value for _, value in known]
    if series.is_line:
        axes.plot(xs, values, color=colour, linestyle=line, linewidth=2)
    size = 7 if len(xs) <= MANY_POINTS else 4.5
    axes.plot(
        xs,
        values,
        color=colour,
        linestyle="none",
        marker=marker,
        markersize=size,
        mec=PAPER,
        clip_on=False,
        gid=f"series{number}",
    )
    return [_tooltip(curve, series, point) for point, _ in known]


def _draw_bars(axes: Any, curve: Curve, number: int) -> list[str]:
    """Draw a series on top of those before it, and return a tooltip for every bar."""
    from matplotlib.collections import PolyCollection

    xs = sorted({point.x for series in curve.series for point in series.points})
    width = 0.9 * min((after - before for before, after in pairwise(xs)), default=1.0)
    bottoms: dict[float, float] = {}
    for series in curve.series[:number]:
        for point in series.points:
            bottoms[point.x] = bottoms.get(point.x, 0) + (_value(point) or 0)
    series = curve.series[number]
    known = [(point, value) for point in series.points if (value := _value(point))]
    bars = []
    for point, value in known:
        left, right, bottom = point.x - width / 2, point.x + width / 2, bottoms.get(point.x, 0)
        bars.append([(left, bottom), (left, bottom + value), (right, bottom + value), (right, bottom)])
    axes.add_collection(PolyCollection(bars, facecolors=SERIES[number % NUM_COLOURS], gid=f"series{number}"))
    return [_tooltip(curve, series, point) for point, _ in known]


def _tooltip(curve: Curve, series: Series, point: Point) -> str:
    return f"{series.name}, {x_text(curve, point.x)}: {cell_text(point.y)}"


def x_text(curve: Curve, x: float) -> str:
    """Return a place on a curve's horizontal axis in words."""
    return f"{datetime.fromtimestamp(x * 86400, UTC):%Y-%m-%d %H:%M}" if curve.x_is_time else f"{x:.6g}"


def _label_times(axes: Any) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=MAX_TICKS, tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, tz=UTC, show_offset=False))


def _look(number: int) -> tuple[str, str, str]:
    """Return colour, line style and marker of a series; series differ in all three."""
    return SERIES[number % NUM_COLOURS], LINE_STYLES[number % len(LINE_STYLES)], MARKERS[number % len(MARKERS)]


def _value(point: Point) -> float | None:
    return point.y.value if isinstance(point.y, Rate) else point.y


def _equal_limits(positions: Sequence[tuple[float, float]], ratio: float) -> dict[str, tuple[float, float]]:
    """Return the limits of both axes, on one scale, that enclose all positions; the area is `ratio` times as wide."""
    xs, ys = zip(*positions, strict=True)
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = max((max(xs) - min(xs)) / ratio, max(ys) - min(ys)) / 2
    if half < 1e-6 * max(abs(x), abs(y), 1e-6):
        half = max(abs(x), abs(y), 1.0)
    return {"xlim": (x - ratio * half, x + ratio * half), "ylim": (y - half, y + half)}


def _own_ticks(xs: Sequence[float], log: bool) -> list[float]:
    """Return the measured values that have room for a label; none if matplotlib's ticks serve better."""
    if log:
        return list(xs[:: math.ceil(len(xs) / MAX_TICKS)])
    if len(xs) > MAX_TICKS:
        return []
    ticks: list[float] = []
    for x in xs:
        if not ticks or x - ticks[-1] >= MIN_TICK_GAP * (xs[-1] - xs[0]):
            ticks.append(x)
    return ticks


def new_figure(width: int, height: int, **options: Any) -> Figure:
    """Return a figure of this size in points, without the global state of pyplot; draw within `drawing_style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), **options)


def _svg(figure: Figure, key: str, tooltips: Mapping[str, Sequence[str]]) -> Markup:
    """Return a figure as an inline SVG element without styles of its own, which the page's policy would block.

    Args:
        figure: The figure, in stand-in colours.
        key: Prefix of its ids.
        tooltips: For each group id, the texts of its marks in order.
    """
    from markupsafe import Markup

    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314 - written by matplotlib a line above
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    used = {value[1:] for each in root.iter() if (value := each.get("href"))}
    used |= {value[5:-1] for each in root.iter() if (value := each.get("clip-path"))}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style") or (child.tag == "defs" and not len(child)):
                parent.remove(child)
    for element in list(root.iter()):
        for mark, text in zip(list(element.iter("use")), tooltips.get(element.get("id", ""), ()), strict=False):
            ElementTree.SubElement(mark, "title").text = visible(text)
        _replace_style(element)
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{key}-{name}")
        if target := element.get("href"):
            element.set("href", f"#{key}-{target[1:]}")
        if clip := element.get("clip-path"):
            element.set("clip-path", f"url(#{key}-{clip[5:]}")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("aria-hidden", "true")
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by the writer


def _replace_style(element: ElementTree.Element) -> None:
    """Turn a style into attributes, and stand-in colours into variables; fonts are the page's."""
    for rule in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in rule.partition(":"))
        if name and not name.startswith("font"):
            element.set(name, f"var(--{VARIABLES[value]})" if value in VARIABLES else value)
