"""One part of the field study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from smoothguard_guardrail.evaluation.report import Section

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part adds to the report.

    Args:
        summary: Paragraphs that say in plain words what was found, losses included.
        sections: With the measurements.
    """

    summary: tuple[str, ...]
    sections: tuple[Section, ...]
