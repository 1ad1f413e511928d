"""SHA-256 of model folders; unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from smoothguard_guardrail._internal.files import file_sha256, write_atomic
from smoothguard_guardrail.errors import InputError

_IGNORED_SUFFIXES = frozenset({".md", ".png", ".jpg", ".jpeg", ".gif", ".pdf", ".py", ".pyc", ".lock"})


def folder_sha256(folder: Path, *, memory: Path | None = None) -> str:
    """Return the SHA-256 over the names and contents of a model folder's files.

    Args:
        folder: The folder; README, images, code and hidden files are not part of the model.
        memory: A JSON file that stores the hashes by size and modification time, so that gigabytes of weights are
            not read in every run.

    Raises:
        InputError: A file cannot be read, or there is none.
    """
    known = _remembered(memory)
    files = sorted(path for path in folder.rglob("*") if _is_part(path.relative_to(folder), path))
    if not files:
        raise InputError(f"{folder} has no model files")
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        mark = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
        known[mark] = known.get(mark) or file_sha256(path)
        digest.update(f"{path.relative_to(folder).as_posix()} {known[mark]}\n".encode())
    if memory is not None:
        write_atomic(memory, json.dumps(known, indent=1))
    return digest.hexdigest()


def _is_part(relative: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
    return path.is_file() and not hidden and path.suffix.lower() not in _IGNORED_SUFFIXES


def _remembered(memory: Path | None) -> dict[str, str]:
    if memory is None or not memory.is_file():
        return {}
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
