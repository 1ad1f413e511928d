"""Reads safety logs; a line that cannot be read is counted and left out."""

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
class Reading:
    """What was found beside the lines that could be read."""

    damaged: int = 0
    """Lines that are no line of a safety log."""
    foreign: int = 0
    """Lines of another schema version."""


def read_log(paths: Sequence[Path], reading: Reading) -> Iterator[Line]:
    """Yield the lines of some files in their order, keeping count of the unreadable ones in `reading`.

    Args:
        paths: Files, gzipped when they end in `.gz`; `-` is standard input.
        reading: Counts what is left out.

    Raises:
        OSError: If a file cannot be read.

    Example:
        >>> import tempfile
        >>> reading = Reading()
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     size = file.write(b"no line of ours")
        ...     file.flush()
        ...     list(read_log([Path(file.name)], reading)), reading.damaged
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
                    if _is_foreign(data):
                        reading.foreign += 1
                    else:
                        reading.damaged += 1


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


def rotated_siblings(path: Path) -> list[Path]:
    """Return the files beside a log that logging or logrotate made of it: `NAME.1`, `NAME.2026-11-24`, `NAME.2.gz`.

    Example:
        >>> rotated_siblings(Path("no/such/file"))
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


def _is_foreign(data: bytes) -> bool:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION
