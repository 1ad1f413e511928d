"""Reads safety logs; lines that cannot be read are counted and skipped."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from smoothguard_guardrail.observability.safety_log.lines import LINE, SCHEMA_VERSION, Line


@dataclass(slots=True)
class SkippedLines:
    """Counts of the lines that could not be read."""

    damaged: int = 0
    """Lines that are not lines of a safety log."""
    other_version: int = 0
    """Lines of another schema version."""

    def texts(self) -> list[str]:
        """Return what to tell readers about them, one line for each kind that there is."""
        counts = {"damaged lines": self.damaged, "lines of another schema version": self.other_version}
        return [f"{name} skipped: {count}" for name, count in counts.items() if count]


def read_log(paths: Sequence[Path], skipped: SkippedLines) -> Iterator[Line]:
    """Yield the lines of files in order, and count the unreadable ones in `skipped`.

    Args:
        paths: Files, read as gzip if they end in `.gz`; `-` is standard input.
        skipped: Its counts are increased.

    Raises:
        OSError: If a file cannot be read.

    Example:
        >>> import tempfile
        >>> skipped = SkippedLines()
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     size = file.write(b"not a log line")
        ...     file.flush()
        ...     list(read_log([Path(file.name)], skipped)), skipped.damaged
        ([], 1)
    """
    for path in paths:
        with _opened(path) as file:
            for data in file:
                if data.isspace():
                    continue
                try:
                    yield LINE.validate_json(data)
                except ValidationError:
                    if _has_other_version(data):
                        skipped.other_version += 1
                    else:
                        skipped.damaged += 1


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if str(path) == "-":
        yield sys.stdin.buffer
    elif path.suffix == ".gz":
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]
    else:
        with path.open("rb") as file:
            yield file


def rotated_files(path: Path) -> list[Path]:
    """Return the rotated files next to a log: `NAME.1`, `NAME.2026-11-24`, `NAME.2.gz`.

    Example:
        >>> rotated_files(Path("no/such/file"))
        []
    """
    prefix = f"{path.name}."
    if not path.parent.is_dir():
        return []
    return sorted(
        sibling
        for sibling in path.parent.iterdir()
        if sibling.name.startswith(prefix) and _is_rotation(sibling, prefix)
    )


def _is_rotation(path: Path, prefix: str) -> bool:
    return path.is_file() and path.name[len(prefix) :][:1].isdigit()


def _has_other_version(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION
