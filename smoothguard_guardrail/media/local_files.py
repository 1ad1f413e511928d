"""Reads media from local files, only below the directories that the policy allows."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from smoothguard_guardrail.errors import MediaFetchError, MediaLimitError

if TYPE_CHECKING:
    from smoothguard_guardrail.config import RemotePolicy


def read_local(reference: str, *, policy: RemotePolicy, max_bytes: int, path: str) -> bytes:
    """Read a medium from a `file:` URL or a local path.

    Args:
        reference: The string in the block.
        policy: Names the directories below which files may be read.
        max_bytes: Largest size of the file.
        path: Path of the block, for the error.

    Raises:
        MediaFetchError: The file is not below an allowed directory, or cannot be read.
        MediaLimitError: It is larger than `max_bytes`.
    """
    if not policy.allowed_directories:
        raise MediaFetchError(
            "local paths are read only with RemotePolicy(allowed_directories=...)",
            path=path,
        )
    try:
        resolved = _local_path(reference).resolve(strict=True)
        roots = [Path(root).resolve(strict=True) for root in policy.allowed_directories]
        if not any(resolved.is_relative_to(root) for root in roots):
            raise MediaFetchError("the file is not below an allowed directory", path=path)
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(resolved, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MediaFetchError("expected a regular file", path=path)
            data = file.read(max_bytes + 1)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, MediaFetchError):
            raise
        raise MediaFetchError("the file cannot be read", path=path) from error
    if len(data) > max_bytes:
        raise MediaLimitError(f"the file has more than {max_bytes:,} bytes", path=path)
    return data


def _local_path(reference: str) -> Path:
    stripped = reference.strip()
    if not stripped.lower().startswith("file:"):
        return Path(stripped)
    parts = urlsplit(stripped)
    if parts.netloc.lower() not in ("", "localhost"):
        raise ValueError("the file URL names another host")
    return Path(unquote(parts.path))
