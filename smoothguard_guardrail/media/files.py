"""A message from files."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.media.formats import sniff

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_BLOCK_TYPE = {"pdf": "file"}


def request_from_files(paths: Sequence[Path], question: str) -> HumanMessage:
    """Return a message with these files, in order, and then the question.

    Raises:
        InputError: A file cannot be read, or is not a known medium.
    """
    return HumanMessage(content=[*(_block(path) for path in paths), {"type": "text", "text": question}])


def _block(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    sniffed = sniff(data)
    if sniffed is None:
        raise InputError(f"{path}: expected an image, audio file or PDF of a known format")
    kind = _BLOCK_TYPE.get(sniffed.kind, sniffed.kind)
    return {"type": kind, "base64": base64.b64encode(data).decode(), "mime_type": sniffed.mime_type}
