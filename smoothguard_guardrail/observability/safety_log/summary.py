"""The figures of a safety log: counts, quantiles, rates over time, and the calls that deserve a look."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from smoothguard_guardrail.observability.safety_log.filters import VERDICTS, verdict_of
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, VerdictLine

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

_STEPS = [timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 6 * 60, 24 * 60, 7 * 24 * 60, 30 * 24 * 60)]
_MAX_ROWS = 24
MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
"""Where periods are counted from, so that weeks begin on a Monday."""


def suspicions(line: Line, *, low_agreement: float) -> list[str]:
    """Return what makes a call suspicious: `abstained`, `clean_overruled`, `low_agreement`, `suspicion`."""
    if isinstance(line, FailureLine) or line.verdict == "skipped":
        return []
    reasons = {
        "abstained": line.verdict == "abstained",
        "clean_overruled": bool(line.clean_overruled),
        "low_agreement": line.agreement < low_agreement,
        "suspicion": bool(line.suspicious),
    }
    return [reason for reason, holds in reasons.items() if holds]


def period_length(span: timedelta, max_periods: int) -> timedelta:
    """Return the shortest usual period, from a minute to multiples of 30 days, of which at most so many cover a span.

    Example:
        >>> str(period_length(timedelta(hours=20), max_periods=24))
        '1:00:00'
    """
    usual = next((step for step in _STEPS if span < step * (max_periods - 1)), None)
    return usual or _STEPS[-1] * math.ceil(span / (_STEPS[-1] * (max_periods - 2)))


class Summary:
    """Sums up log lines; keeps only figures and the latest suspicious lines.

    Args:
        low_agreement: Agreement below which a call is suspicious.
        max_suspicious: Number of suspicious lines to keep, the latest ones.

    Example:
        >>> Summary().to_json()["calls"]
        0
    """

    def __init__(self, *, low_agreement: float = 0.6, max_suspicious: int = 20) -> None:
        self.low_agreement = low_agreement
        self.verdicts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Failed guarded calls by exception."""
        self.failed_model_calls: Counter[str] = Counter()
        """Failed model calls by exception."""
        self.settings: Counter[str] = Counter()
        """Guarded calls by version and settings hash."""
        self.model_calls: int = 0
        self.tokens: int = 0
        self.num_suspicious: int = 0
        self.reasons: Counter[str] = Counter()
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._suspicious_media: Counter[str] = Counter()
        self._suspicious: deque[VerdictLine] = deque(maxlen=max_suspicious)
        self._agreements: list[float] = []
        self._seconds: list[float] = []
        self._minutes: Counter[tuple[datetime, str]] = Counter()

    def add(self, line: Line) -> None:
        """Count one line."""
        verdict = verdict_of(line)
        self.verdicts[verdict] += 1
        if line.settings_hash is not None:
            self.settings[f"{line.version} {line.settings_hash}"] += 1
        self.model_calls += line.num_calls or 0
        self.failed_model_calls.update(line.failures)
        self.first = min(self.first or line.time, line.time)
        self.last = max(self.last or line.time, line.time)
        self._minutes[line.time.astimezone(UTC).replace(second=0, microsecond=0), verdict] += 1
        if "total" in line.timings:
            self._seconds.append(line.timings["total"])
        if isinstance(line, FailureLine):
            self.failures[line.error] += 1
            return
        self.tokens += line.usage["total_tokens"] if line.usage else 0
        if line.verdict != "skipped":
            self._agreements.append(line.agreement)
        if reasons := suspicions(line, low_agreement=self.low_agreement):
            self.num_suspicious += 1
            self.reasons.update(reasons)
            self._suspicious_media.update({medium.sha256 for medium in line.media if medium.sha256})
            self._suspicious.append(line)

    @property
    def calls(self) -> int:
        """Number of guarded calls."""
        return self.verdicts.total()

    @property
    def agreement(self) -> dict[float, float]:
        """Agreement by quantile, over the calls with a vote."""
        return quantiles(self._agreements)

    @property
    def seconds(self) -> dict[float, float]:
        """Seconds of a guarded call by quantile."""
        return quantiles(self._seconds)

    @property
    def suspicious(self) -> list[VerdictLine]:
        """The latest suspicious lines, in order of time."""
        return sorted(self._suspicious, key=lambda line: line.time)

    @property
    def repeated_media(self) -> dict[str, int]:
        """Number of suspicious calls by hash of a medium, for media that were in more than one; the largest first."""
        return {sha256: count for sha256, count in self._suspicious_media.most_common() if count > 1}

    def rates(self) -> tuple[timedelta, list[tuple[datetime, Counter[str]]]]:
        """Return the length of a period, and counts by verdict for every period with calls."""
        if self.first is None or self.last is None:
            return _STEPS[0], []
        step = period_length(self.last - self.first, _MAX_ROWS)
        periods: dict[datetime, Counter[str]] = {}
        for (minute, verdict), count in sorted(self._minutes.items()):
            periods.setdefault(_floor(minute, step), Counter())[verdict] += count
        return step, list(periods.items())

    def to_json(self) -> dict[str, Any]:
        """Return all figures as plain JSON."""
        step, periods = self.rates()
        return {
            "calls": self.calls,
            "first": self.first and self.first.isoformat(),
            "last": self.last and self.last.isoformat(),
            "verdicts": {verdict: self.verdicts[verdict] for verdict in VERDICTS},
            "failures": dict(self.failures.most_common()),
            "settings": dict(self.settings.most_common()),
            "agreement": _named(self.agreement),
            "seconds": _named(self.seconds),
            "model_calls": self.model_calls,
            "failed_model_calls": dict(self.failed_model_calls.most_common()),
            "tokens": self.tokens,
            "rates": {
                "seconds": int(step.total_seconds()),
                "periods": [
                    {"start": start.isoformat(), **{verdict: counts[verdict] for verdict in VERDICTS}}
                    for start, counts in periods
                ],
            },
            "suspicious": {
                "count": self.num_suspicious,
                "low_agreement": self.low_agreement,
                "reasons": dict(self.reasons.most_common()),
                "repeated_media": self.repeated_media,
                "latest": [line.model_dump(mode="json", exclude_none=True) for line in self.suspicious],
            },
        }


def quantiles(values: Iterable[float], shares: Sequence[float] = QUANTILES) -> dict[float, float]:
    """Return values by quantile (nearest rank); empty without values.

    Example:
        >>> quantiles([3.0, 1.0, 2.0], [0.0, 0.5, 1.0])
        {0.0: 1.0, 0.5: 2.0, 1.0: 3.0}
    """
    ranked = sorted(values)
    if not ranked:
        return {}
    return {share: ranked[max(0, math.ceil(share * len(ranked)) - 1)] for share in shares}


def _named(values: dict[float, float]) -> dict[str, float]:
    return {f"p{round(100 * share)}": value for share, value in values.items()}


def _floor(moment: datetime, step: timedelta) -> datetime:
    return MONDAY + (moment - MONDAY) // step * step
