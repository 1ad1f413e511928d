"""The figures of many guarded calls, as DuckDB finds them: over time, by client, by hash, by setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from smoothguard_guardrail.observability.safety_log.summary import MONDAY, period_length

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUANTITIES: Final = {
    "agreement": "agreement",
    "suspicion": "suspicion",
    "model calls": "num_calls",
    "tokens": "tokens",
    "seconds": "timings.total",
    "seconds: scan": "timings.scan",
    "seconds: perturb": "timings.perturb",
    "seconds: model": "timings.model",
    "seconds: vote": "timings.vote",
}
SHARES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
PERIOD_SHARES: Final = (0.05, 0.5, 0.95, 0.99)
MAX_PERIODS: Final = 49
_COUNTS: Final = """
    count(*) as calls,
    count(*) filter (verdict = 'passed') as passed,
    count(*) filter (verdict = 'abstained') as abstained,
    count(*) filter (verdict = 'skipped') as skipped,
    count(*) filter (verdict = 'failed') as failed,
    count(*) filter (action = 'answered') as answered,
    count(*) filter (action = 'refused') as refused,
    count(*) filter (suspicious) as suspicious,
    count(distinct client) as clients,
    min(time) as first,
    max(time) as last"""
_PLACES: Final = {
    "clients": ("client", "calls"),
    "tags": ("tag", "(select unnest(list_distinct(tags)) as tag, * from calls)"),
    "models": ("model", "calls"),
    "what decided": ("reason", "calls"),
    "errors": ("error", "calls"),
    "errors of model calls": ("failure", "(select unnest(failures) as failure, * from calls)"),
}
"""By heading: what a group of calls shares, and where it is found."""
ERRORS: Final = ("errors", "errors of model calls")


_SETTINGS: Final = "concat_ws(' · ', version, left(settings_hash, 12), settings)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many calls there are of every kind, in a group of calls."""

    calls: int
    passed: int
    abstained: int
    skipped: int
    failed: int
    answered: int
    refused: int
    suspicious: int
    """Calls with any of the reasons of `suspicions`."""
    clients: int
    """How many different clients asked; 0 where the log names none."""
    first: datetime | None
    last: datetime | None

    @property
    def voted(self) -> int:
        """Calls with a vote: those that had media to guard."""
        return self.passed + self.abstained


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The calls that share something."""

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The calls of one period."""

    start: datetime
    counts: Counts
    quantiles: dict[str, list[float] | None]
    """By quantity, at `PERIOD_SHARES`; None without values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCall:
    """A suspicious or failed call, or the one that was asked for."""

    time: datetime
    verdict: str
    action: str
    reasons: tuple[str, ...]
    """What makes it suspicious; the error, if it failed."""
    client: str | None
    tags: tuple[str, ...]
    text: str
    """The whole line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of the chosen calls."""

    total: Counts
    quantiles: dict[str, list[float] | None]
    """By quantity, at `SHARES`; None without values."""
    period: timedelta
    periods: tuple[Period, ...]
    hashes: tuple[Group, ...]
    """Media that came more than once, those with most suspicious calls first."""
    groups: dict[str, tuple[Group, ...]]
    """By heading, the largest first."""
    settings: tuple[Group, ...]
    """In the order in which they were first used."""
    calls: tuple[LoggedCall, ...]
    """The latest ones first."""


def find_figures(connection: DuckDBPyConnection, *, limit: int = 20, max_rows: int = 20) -> Figures:
    """Return the figures of the view `calls`; see `open_log`.

    Args:
        connection: From `open_log`.
        limit: Number of single calls, the latest ones.
        max_rows: Number of groups of each kind, the largest ones.
    """
    columns = f"{_COUNTS}, {_quantiles(SHARES)}"
    total, quantiles = _counts_and_quantiles(connection.sql(f"select {columns} from calls").fetchall()[0])  # noqa: S608
    period = timedelta(minutes=1)
    if total.first and total.last:
        period = period_length(total.last - total.first, MAX_PERIODS)
    return Figures(
        total=total,
        quantiles=quantiles,
        period=period,
        periods=_periods(connection, period),
        hashes=_groups(
            connection,
            "hash",
            "(select unnest(hashes) as hash, * from calls)",
            having="calls > 1",
            order="suspicious desc, calls desc, name",
            limit=max_rows,
        ),
        groups={heading: _groups(connection, key, place, limit=max_rows) for heading, (key, place) in _PLACES.items()},
        settings=_groups(connection, _SETTINGS, "calls", order="first, name", limit=max_rows),
        calls=_calls(connection, limit),
    )


def _groups(
    connection: DuckDBPyConnection,
    key: str,
    place: str,
    *,
    limit: int,
    having: str = "true",
    order: str = "calls desc, name",
) -> tuple[Group, ...]:
    rows = connection.execute(
        f"select left({key}, 256) as name, {_COUNTS} from {place} where {key} is not null"  # noqa: S608 - our own SQL
        f" group by name having {having} order by {order} limit $limit",
        {"limit": limit},
    ).fetchall()
    return tuple(Group(name=name, counts=_counts(counts)) for name, *counts in rows)


def _periods(connection: DuckDBPyConnection, period: timedelta) -> tuple[Period, ...]:
    columns = f"{_COUNTS}, {_quantiles(PERIOD_SHARES)}"
    rows = connection.execute(
        f"select time_bucket($period, time, $monday) as start, {columns} from calls group by start order by start",  # noqa: S608
        {"period": period, "monday": MONDAY},
    ).fetchall()
    periods = []
    for start, *row in rows:
        counts, quantiles = _counts_and_quantiles(row)
        periods.append(Period(start=start, counts=counts, quantiles=quantiles))
    return tuple(periods)


def _calls(connection: DuckDBPyConnection, limit: int) -> tuple[LoggedCall, ...]:
    rows = connection.execute(
        """select time, verdict, action, list_filter([
            case when verdict = 'abstained' then 'abstained' end, case when clean_overruled then 'clean_overruled' end,
            case when low_agreement then 'low_agreement' end, case when above_threshold then 'suspicion' end, error
            ], lambda reason: reason is not null), client, tags, text
        from calls where text is not null order by time desc, id limit $limit""",
        {"limit": limit},
    ).fetchall()
    return tuple(
        LoggedCall(
            time=time,
            verdict=verdict,
            action=action,
            reasons=tuple(reasons),
            client=client,
            tags=tuple(tags or ()),
            text=text,
        )
        for time, verdict, action, reasons, client, tags, text in rows
    )


def _quantiles(shares: Sequence[float]) -> str:
    return ", ".join(
        f"quantile_disc({column}, {list(shares)}) filter (isfinite({column}::double))" for column in QUANTITIES.values()
    )


def _counts_and_quantiles(row: Sequence[Any]) -> tuple[Counts, dict[str, list[float] | None]]:
    size = len(fields(Counts))
    return _counts(row[:size]), dict(zip(QUANTITIES, row[size:], strict=True))


def _counts(row: Sequence[Any]) -> Counts:
    return Counts(**dict(zip((field.name for field in fields(Counts)), row, strict=True)))
