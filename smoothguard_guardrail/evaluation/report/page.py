"""The report as a page: one HTML file that loads nothing else, runs no script and opens in any browser, offline.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from smoothguard_guardrail.evaluation import Rate
    >>> from smoothguard_guardrail.evaluation.report import Report, Section, Table, write_report
    >>> table = Table(title="Attacks that succeed", columns=("arm", "rate"), rows=(("guarded", Rate(k=1, n=40)),))
    >>> report = Report(
    ...     title="A study",
    ...     summary=("The guard *halves* the rate.",),
    ...     sections=(Section(title="Attacks", tables=(table,)),),
    ...     environment={"seed": 0},
    ... )
    >>> page, data = write_report(report, Path(tempfile.mkdtemp()))
    >>> page.name, Report.model_validate_json(data.read_bytes()) == report
    ('report.html', True)
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from functools import lru_cache
from importlib import resources
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.evaluation.report.content import Cell, ClusterMap, Curve, Report, Table
from smoothguard_guardrail.evaluation.report.formatting import cell_text, inline_markup, interval, rate_parts, visible
from smoothguard_guardrail.evaluation.report.images import image_size
from smoothguard_guardrail.evaluation.report.plots import NUM_COLOURS, draw_curve, draw_map, draw_swatch, x_text
from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from jinja2 import Environment
    from markupsafe import Markup


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `report.html`, for readers, and `report.json`, for programs, and return their paths.

    The folder is created if missing; existing files are replaced.

    Raises:
        MissingDependencyError: The report has curves or maps, and matplotlib is not installed.
        OSError: The folder cannot be written to.
    """
    page, data = folder / "report.html", folder / "report.json"
    write_atomic(page, render_html(report))
    write_atomic(data, f"{report.model_dump_json(indent=2)}\n")
    return page, data


def render_html(report: Report) -> str:
    """Return a report as one self-contained HTML file.

    A content security policy forbids the browser to load or run anything; all texts are escaped.

    Raises:
        MissingDependencyError: The report has curves or maps, and matplotlib is not installed.
    """
    sections = [(f"s{place}", section.title) for place, section in enumerate(report.sections, 1)]
    return render_page(
        "report.html.jinja",
        title=report.title,
        contents=[("summary", "Summary"), *sections, ("environment", "Environment")],
        report=report,
        environment=json.dumps(report.environment, indent=2, ensure_ascii=False),
    )


def render_page(
    template: str, *, title: str, contents: Sequence[tuple[str, str]], script: str | None = None, **values: Any
) -> str:
    """Return a page with the look of the reports: one file, whose policy forbids the browser to load anything.

    Args:
        template: Extends `base.html.jinja`.
        title: Of the page.
        contents: Anchor and title of every section.
        script: Name of a template, the only script that may run.
        **values: What the template needs.

    Raises:
        MissingDependencyError: The page has curves or maps, and matplotlib is not installed.
    """
    from smoothguard_guardrail import __version__

    return (
        template_environment(__package__)
        .get_template(template)
        .render(
            title=title,
            contents=contents,
            version=__version__,
            style=page_style(),
            script=own_text(__package__, script) if script else None,
            **values,
        )
    )


@lru_cache(maxsize=4)
def template_environment(package: str) -> Environment:
    """Return the environment for the templates of a package: all texts are escaped, invisible characters are shown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"inline_markup": inline_markup, "cell_text": cell_text}
    made.globals |= {
        "column_kinds": _column_kinds,
        "curve_table": _curve_table,
        "draw_curve": draw_curve,
        "draw_map": _draw_map,
        "draw_swatch": draw_swatch,
        "image_size": image_size,
        "interval": interval,
        "map_wordings": _map_wordings,
        "source_hash": source_hash,
        "rate_parts": lambda cell: rate_parts(cell) if isinstance(cell, Rate) else None,
    }
    return made


def own_text(package: str, *names: str) -> Markup:
    """Return style sheets or a script of a package's templates, as they are."""
    from markupsafe import Markup

    folder = resources.files(package).joinpath("templates")
    texts = (folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    return Markup("").join(Markup(text) for text in texts)  # noqa: S704 - the package's own files


def page_style() -> Markup:
    """Return the style of the reports' pages."""
    return own_text(__package__, "palette.css", "report.css")


def source_hash(text: str) -> str:
    """Return the source expression with which a content security policy allows a style or a script.

    Example:
        >>> source_hash("")
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _finalize(value: Any) -> Any:
    """Make invisible characters visible in every text that a template shows."""
    return visible(value) if type(value) is str else value


def _column_kinds(table: Table) -> list[str]:
    """Return the CSS class of every column: rate, number or text."""
    return ["text", *(_kind([row[place] for row in table.rows]) for place in range(1, len(table.columns)))]


def _kind(cells: list[Cell]) -> str:
    known = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, Rate) for cell in known):
        return "rate"
    return "text" if not known or any(isinstance(cell, str) for cell in known) else "number"


def _curve_table(curve: Curve) -> Table:
    """Return the points of a curve as a table: one row per x, more where a series has several points there."""
    columns: list[dict[float, list[Cell]]] = []
    for series in curve.series:
        columns.append({})
        for point in series.points:
            columns[-1].setdefault(point.x, []).append(point.y)
    rows = []
    for x in sorted({x for points in columns for x in points}):
        rows += [(x_text(curve, x), *cells) for cells in zip_longest(*(points.get(x, ()) for points in columns))]
    return Table(
        title=f"{curve.title}: {curve.y_label}",
        columns=(curve.x_label, *(series.name for series in curve.series)),
        rows=tuple(rows),
    )


def _order(cluster_map: ClusterMap) -> list[int]:
    """Return the indices of the wordings, the most frequent first."""
    return sorted(range(len(cluster_map.texts)), key=lambda index: -cluster_map.counts[index])


def _cluster_numbers(cluster_map: ClusterMap) -> dict[int, int]:
    """Number the clusters from 0, the largest first."""
    sizes: Counter[int] = Counter()
    for label, count in zip(cluster_map.labels, cluster_map.counts, strict=True):
        sizes[label] += count
    return {label: number for number, (label, _) in enumerate(sizes.most_common())}


def _draw_map(cluster_map: ClusterMap, key: str) -> Markup:
    return draw_map(cluster_map, _order(cluster_map), _cluster_numbers(cluster_map), key)


def _map_wordings(cluster_map: ClusterMap) -> list[dict[str, Any]]:
    """Return the wordings below a map, in the order in which its discs are numbered."""
    numbers = _cluster_numbers(cluster_map)
    return [
        {
            "count": cluster_map.counts[index],
            "text": cluster_map.texts[index],
            "cluster": numbers[label] + 1,
            "colour": numbers[label] % NUM_COLOURS,
            "elected": label == cluster_map.winner,
        }
        for index in _order(cluster_map)
        for label in (cluster_map.labels[index],)
    ]
