"""Suspicion scores that another part of the field study stored, as a section of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from benchmarks.detection import Signal, detection_section
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.report import Section

FILE_NAME = "suspicion.json"


class StoredScore(Record):
    """One row of `suspicion.json`."""

    kind: Literal["clean", "plain", "adaptive"]
    calls: int
    score: FiniteFloat
    id: str | None = None
    """Of the original that it is about; None: rows are taken for different originals."""


def stored_detection_section(folder: Path, title: str) -> Section | None:
    """Return detection by the scores that a part stored in its folder; None if it stored none.

    Raises:
        ValueError: The file is not a list of such rows, or a number of calls lacks clean or attacked ones.
    """
    file = folder / FILE_NAME
    if not file.exists():
        return None
    try:
        rows = TypeAdapter(list[StoredScore]).validate_json(file.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{file}: expected a list of rows with kind, calls and score: {error}") from None
    signals = []
    for calls in sorted({row.calls for row in rows}):
        by_kind: dict[str, dict[str, float]] = {}
        for index, row in enumerate(rows):
            if row.calls == calls:
                by_kind.setdefault(row.kind, {})[row.id or f"{row.kind}/{index}"] = row.score
        clean = by_kind.pop("clean", {})
        if not clean or not by_kind:
            raise ValueError(f"{file}: expected clean and attacked rows for {calls} calls")
        signals.append(Signal(name="suspicion", calls=calls, clean=clean, attacked=by_kind))
    text = "Scores of the clean copy's answer and those of perturbed copies. The attacks were not made against them."
    return detection_section(title, (text,), signals)
