"""Files: written all or not at all, hashed, and read as JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from smoothguard_guardrail.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name once it is complete.

    A crash, an error or a full disk leaves the previous file as it was. Parent folders are created.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.bin"
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"complete")
        >>> path.read_bytes()
        b'complete'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file, text as UTF-8 with Unix line ends; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; a file of the same size and modification time is not read again.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        state = path.stat()
        return _sha256(str(path.resolve()), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=100_000)
def _sha256(path: str, size: int, modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_lines(path: Path, *, parse: Callable[[str], Any] = json.loads) -> list[tuple[int, Any]]:
    r"""Return the number, from 1, and the value of every line of a JSON Lines file; blank lines are skipped.

    Args:
        path: The file, UTF-8, with or without a byte order mark.
        parse: Parses one line; raises `ValueError` where it cannot.

    Raises:
        InputError: The file cannot be read, or a line is not JSON; names the line.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> write_atomic(path, '{"id": 1}\n\n{"id": 2}\n')
        >>> read_json_lines(path)
        [(1, {'id': 1}), (3, {'id': 2})]
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append((number, parse(line)))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: expected a JSON value: {error}") from error
    return rows
