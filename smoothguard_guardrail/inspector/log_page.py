"""A safety log as one HTML page: rates over time, distributions, what comes again, who asks, and the single calls."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from smoothguard_guardrail._internal.times import duration_text, time_text
from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table, days
from smoothguard_guardrail.evaluation.report.page import render_page
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.observability.safety_log.database import open_log
from smoothguard_guardrail.observability.safety_log.figures import (
    ERRORS,
    PERIOD_SHARES,
    QUANTITIES,
    SHARES,
    find_figures,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from smoothguard_guardrail.observability.safety_log.figures import Counts, Figures, Group, LoggedCall, Period
    from smoothguard_guardrail.observability.safety_log.filters import LineFilter
    from smoothguard_guardrail.observability.safety_log.reader import SkippedLines

_HASH_CHARS: Final = 16
_RATES: Final[dict[str, Callable[[Counts], Rate]]] = {
    "suspicious": lambda counts: Rate(k=counts.suspicious, n=counts.voted),
    "abstained": lambda counts: Rate(k=counts.abstained, n=counts.voted),
    "refused": lambda counts: Rate(k=counts.refused, n=counts.calls),
    "failed": lambda counts: Rate(k=counts.failed, n=counts.calls),
}
_OVER_TIME: Final = {
    "agreement": ("share of the answers", (0.05, 0.5)),
    "suspicion": ("0 to 1", (0.5, 0.95)),
    "seconds": ("seconds", (0.5, 0.95, 0.99)),
    "model calls": ("calls", (0.5, 0.95)),
}
_TITLES: Final = {
    "agreement": "Agreement",
    "suspicion": "Suspicion",
    "seconds": "Seconds per guarded call",
    "model calls": "Model calls per guarded call",
}


def check_packages() -> None:
    """Check that everything is installed that the page needs.

    Raises:
        MissingDependencyError: The extra `log` is not installed.
    """
    for package in ("duckdb", "jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise MissingDependencyError(package, "log")


def log_page(
    files: Sequence[Path], chosen: LineFilter, *, low_agreement: float = 0.6, limit: int = 20
) -> tuple[str, int]:
    """Return the page of safety logs, and how many guarded calls it counts.

    Args:
        files: Safety logs, as `open_log` reads them.
        chosen: Which lines count.
        low_agreement: Agreement below which a call is suspicious.
        limit: Number of single calls to show, the latest ones.

    Raises:
        MissingDependencyError: The extra `log` is not installed.
        OSError: A file cannot be read.
    """
    check_packages()
    with open_log(files, chosen, low_agreement=low_agreement) as (connection, skipped):
        figures = find_figures(connection, limit=limit)
    return render_log(figures, skipped, chosen), figures.total.calls


def render_log(figures: Figures, skipped: SkippedLines, chosen: LineFilter) -> str:
    """Return the page; every value of the log is escaped, and the page loads nothing.

    Args:
        figures: Of the calls that `chosen` lets pass.
        skipped: The lines that could not be read.
        chosen: What was asked for.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    sections = [] if chosen.id else _sections(figures)
    names = [(f"s{place}", section.title) for place, section in enumerate(sections, 1)]
    return render_page(
        "log.html.jinja",
        title="Guarded calls" if chosen.id is None else "One guarded call",
        contents=[("summary", "Summary"), *names, ("calls", "Single calls")],
        script="log.js",
        tiles=_tiles(figures),
        chosen=_chosen(figures.total, chosen),
        unread=" ".join(f"{line[0].upper()}{line[1:]}." for line in skipped.texts()),
        sections=sections,
        calls=[_shown(call) for call in figures.calls],
        calls_note=_calls_note(figures, chosen),
    )


def _sections(figures: Figures) -> list[Section]:
    if not figures.total.calls:
        return []
    return [
        Section(title="Over time", curves=tuple(_curves(figures))),
        Section(title="Distributions", tables=(_quantiles(figures),)),
        Section(title="Media that come again", tables=(_hashes(figures.hashes),)),
        Section(title="Who and what", tables=tuple(_groups(name, groups) for name, groups in figures.groups.items())),
        Section(title="Settings", tables=(_settings(figures.settings),)),
    ]


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """Return heading, figure and a remark for every tile."""
    counts = figures.total
    seconds = figures.quantiles["seconds"]
    tiles = [("guarded calls", f"{counts.calls:,}", f"{counts.skipped:,} without media")]
    for name, rate in _RATES.items():
        found = rate(counts)
        share = "–" if found.value is None else f"{found.value:.1%}"
        tiles.append(
            (name, share, f"{found.k:,} of {found.n:,}" + (" votes" if name in ("suspicious", "abstained") else ""))
        )
    if seconds:
        tiles.append(("seconds, 95%", f"{seconds[SHARES.index(0.95)]:.2f}", f"median {seconds[SHARES.index(0.5)]:.2f}"))
    return tiles


def _curves(figures: Figures) -> list[Curve]:
    periods = figures.periods
    length = f"per {duration_text(figures.period)}"
    counted = {
        "Guarded calls by verdict": ("passed", "abstained", "skipped", "failed"),
        "Guarded calls by action": ("answered", "refused", "skipped", "failed"),
    }
    stacks = [
        Curve(
            title=f"{title}, {length}",
            x_label="time (UTC)",
            y_label="calls",
            style="bars",
            x_is_time=True,
            series=tuple(
                _series(name, periods, lambda period, name=name: getattr(period.counts, name)) for name in names
            ),
        )
        for title, names in counted.items()
    ]
    rates = Curve(
        title=f"Rates, {length}",
        x_label="time (UTC)",
        y_label="share of calls",
        x_is_time=True,
        series=tuple(
            _series(name, periods, lambda period, rate=rate: rate(period.counts)) for name, rate in _RATES.items()
        ),
        note="*Suspicious* and *abstained* are shares of the calls with a vote, the others of all calls.",
    )
    return [stacks[0], rates, stacks[1], *(_quantile_curve(name, periods) for name in _OVER_TIME)]


def _quantile_curve(name: str, periods: Sequence[Period]) -> Curve:
    unit, shares = _OVER_TIME[name]
    return Curve(
        title=_TITLES[name],
        x_label="time (UTC)",
        y_label=unit,
        x_is_time=True,
        series=tuple(
            _series(_share_name(share), periods, lambda period, share=share: _at(period.quantiles[name], share))
            for share in shares
        ),
    )


def _at(values: Sequence[float] | None, share: float) -> float | None:
    return values[PERIOD_SHARES.index(share)] if values else None


def _series(name: str, periods: Sequence[Period], value: Callable[..., Any]) -> Series:
    points = [(days(period.start), value(period)) for period in periods]
    return Series(name=name, points=tuple(Point(x=x, y=y) for x, y in points if y is not None))


def _quantiles(figures: Figures) -> Table:
    rows = [(name, *values) for name in QUANTITIES if (values := figures.quantiles[name])]
    return Table(title="Quantiles over all calls", columns=("", *map(_share_name, SHARES)), rows=tuple(rows))


def _hashes(groups: Sequence[Group]) -> Table:
    return _table(
        "Hashes that come again",
        "SHA-256",
        [replace(group, name=group.name[:_HASH_CHARS]) for group in groups],
        ("suspicious", "abstained", "refused", "clients", "first", "last"),
        note="Those with the most suspicious calls first. Someone who tries one image again and again is here. "
        f"The first {_HASH_CHARS} digits find its lines in the log.",
    )


def _groups(name: str, groups: Sequence[Group]) -> Table:
    columns = ("clients", "first", "last") if name in ERRORS else (*_RATES, "last")
    return _table(
        name.capitalize(), name.removesuffix("s"), groups, columns, note="" if groups else "The log names none."
    )


def _settings(groups: Sequence[Group]) -> Table:
    return _table(
        "Settings in the order in which they were first used",
        "settings",
        groups,
        (*_RATES, "first", "last"),
        note="Version of the package, hash of all settings, and the settings that are not that version's defaults.",
    )


def _table(title: str, head: str, groups: Sequence[Group], columns: Sequence[str], *, note: str) -> Table:
    """Return a table of counts: the name of each group, its calls, and these fields of `Counts`."""
    rows = [
        (group.name, group.counts.calls, *(_cell(getattr(group.counts, column)) for column in columns))
        for group in groups
    ]
    return Table(title=title, columns=(head, "calls", *columns), rows=tuple(rows), note=note)


def _cell(value: int | datetime | None) -> int | str:
    return value if isinstance(value, int) else time_text(value)


def _shown(call: LoggedCall) -> dict[str, Any]:
    record = json.dumps(json.loads(call.text), indent=2, ensure_ascii=False)
    return {
        "time": call.time,
        "verdict": call.verdict,
        "reasons": call.reasons,
        "client": call.client,
        "tags": call.tags,
        "record": record,
    }


def _chosen(total: Counts, chosen: LineFilter) -> str:
    asked = ", ".join(f"{name} {value}" for name, value in chosen.chosen().items())
    span = (
        f"From {time_text(total.first)} to {time_text(total.last)} UTC." if total.calls else "There are no such calls."
    )
    return f"Only calls with {asked}. {span}" if asked else span


def _calls_note(figures: Figures, chosen: LineFilter) -> str:
    if chosen.id is not None:
        return "The whole line of the log." if figures.calls else "The log has no call with this id."
    if not figures.calls:
        return "No call was suspicious or failed."
    return (
        f"The latest {len(figures.calls)} of the {figures.total.suspicious + figures.total.failed:,} calls that were "
        "suspicious or failed. Open one for its whole line of the log."
    )


def _share_name(share: float) -> str:
    return {0.0: "least", 0.5: "median", 1.0: "most"}.get(share, f"{share:.0%}")
