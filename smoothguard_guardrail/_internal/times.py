"""Times as people type and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from smoothguard_guardrail.errors import InputError

TIME_HELP: Final = "`2026-11-24`, `2026-11-24T07:00` (UTC without an offset), or `30m`, `24h`, `7d` ago."
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_time(name: str, text: str | None) -> datetime | None:
    """Return the moment that a text names, as in `TIME_HELP`; None stays None.

    Raises:
        InputError: The text names none; the message begins with the name.

    Example:
        >>> parse_time("--since", "2026-11-24")
        datetime.datetime(2026, 11, 24, 0, 0, tzinfo=datetime.timezone.utc)
    """
    if text is None:
        return None
    try:
        if match := re.fullmatch(r"(\d+)([smhdw])", text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise InputError(
            f"{name} must be a time such as 2026-11-24, 2026-11-24T07:00, 30m, 24h or 7d, got {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def time_text(moment: datetime | None) -> str:
    """Return a time in UTC to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "?"


def duration_text(step: timedelta) -> str:
    """Return the length of a period.

    Example:
        >>> from datetime import timedelta
        >>> duration_text(timedelta(hours=6))
        '6 h'
    """
    minutes = round(step.total_seconds() / 60)
    for size, name in ((24 * 60, "d"), (60, "h")):
        if minutes % size == 0:
            return f"{minutes // size} {name}"
    return f"{minutes} min"
