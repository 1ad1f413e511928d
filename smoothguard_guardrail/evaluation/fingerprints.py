"""SHA-256 of files and model folders, each file read once while it stays as it is."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from smoothguard_guardrail.errors import InputError

_NO_PART_OF_A_MODEL = frozenset({".md", ".png", ".jpg", ".jpeg", ".gif", ".pdf", ".py", ".pyc", ".lock"})


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Read again only when size or time of change differ.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        state = path.stat()
        return _digest(str(path.resolve()), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=100_000)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path, *, memory: Path | None = None) -> str:
    """Return the SHA-256 over the names and contents of a model folder's files.

    Args:
        folder: The folder; README, pictures, code and hidden files are no part of the model.
        memory: A JSON file that keeps the hashes of the files with their size and time of change, so that gigabytes
            of weights are not read in every run.

    Raises:
        InputError: If a file cannot be read, or there is none.
    """
    known = _remembered(memory)
    files = sorted(path for path in folder.rglob("*") if _is_part(path.relative_to(folder), path))
    if not files:
        raise InputError(f"{folder} holds no file of a model")
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        mark = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
        known[mark] = known.get(mark) or file_sha256(path)
        digest.update(f"{path.relative_to(folder).as_posix()} {known[mark]}\n".encode())
    if memory is not None:
        _write(memory, known)
    return digest.hexdigest()


def _is_part(relative: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
    return path.is_file() and not hidden and path.suffix.lower() not in _NO_PART_OF_A_MODEL


def _remembered(memory: Path | None) -> dict[str, str]:
    if memory is None or not memory.is_file():
        return {}
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(memory: Path, known: dict[str, str]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    temporary = memory.with_name(f"{memory.name}.{os.getpid()}")
    temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
    temporary.replace(memory)
