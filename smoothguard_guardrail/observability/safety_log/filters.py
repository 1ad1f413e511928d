"""Which lines of a safety log count: the same choice for the plain reader and for the database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from smoothguard_guardrail.observability.safety_log.lines import Line, VerdictLine

VERDICTS: Final = ("passed", "abstained", "skipped", "failed")
CLIENT_KEY: Final = "client"
"""Key of a guarded call's metadata, and so of the safety log's, under which a server names the client."""


def verdict_of(line: Line) -> str:
    """Return the verdict of a line; `failed` if the guard could not decide."""
    return line.verdict if isinstance(line, VerdictLine) else "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFilter:
    """Chooses lines; None lets every line pass.

    Example:
        >>> LineFilter(tag="web").chosen()
        {'tag': 'web'}
    """

    since: datetime | None = None
    """The earliest time."""
    until: datetime | None = None
    """The first time that no longer counts."""
    verdict: str | None = None
    """One of `VERDICTS`."""
    tag: str | None = None
    """One of the line's tags."""
    client: str | None = None
    """Who asked, as in the line's metadata."""
    id: str | None = None
    """Of one guarded call."""

    def matches(self, line: Line) -> bool:
        """Return whether a line counts."""
        return (
            (self.since is None or line.time >= self.since)
            and (self.until is None or line.time < self.until)
            and self.verdict in (None, verdict_of(line))
            and (self.tag is None or self.tag in line.tags)
            and self.client in (None, line.metadata.get(CLIENT_KEY))
            and self.id in (None, line.id)
        )

    def chosen(self) -> dict[str, Any]:
        """Return the settings that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


SQL: Final = {
    "since": "time >= $since",
    "until": "time < $until",
    "verdict": "verdict = $verdict",
    "tag": "list_contains(tags, $tag)",
    "client": "client = $client",
    "id": "id = $id",
}
"""`LineFilter.matches`, one condition per setting, on the columns of the database."""
