"""What scanning finds: a medium, and where in the messages it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from smoothguard_guardrail.errors import UnsupportedMediaError

MAX_DEPTH = 64
"""Levels of nesting in one message, at most."""

Address = tuple[Any, ...]
"""Index of the message, name of its field, then the keys and indices down to a value."""

Form = Literal["data_uri", "base64", "base64_bytes", "bytes", "object", "url", "path", "file_id", "unknown"]
"""How the value stands for the medium. `base64_bytes`: base64 as ASCII bytes; `object`: a Pillow picture, tensor or
array; `url`, `path` and `file_id` are references; `unknown`: the block is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One medium, or one block that is not understood."""

    kind: str
    """`image`, `audio`, `video`, `pdf`, `file`, `embedding`, `file_id`, `unknown`: as the block says, not the bytes."""
    form: Form
    value: Any
    """The string, bytes or object that stands for it; for a span, the part of the string."""
    leaf: Address
    """Where that value stands."""
    block: Address
    """What is removed when the medium is dropped."""
    replaceable: bool
    """Whether an in-process block may take the place of `block`."""
    declared: tuple[Address, ...] = ()
    """Where the block declares a media type or format."""
    span: tuple[int, int] | None = None
    """Start and stop in a plain text; None when the value stands alone."""
    reason: str | None = None
    """Why a block of form `unknown` is not understood."""

    @property
    def path(self) -> str:
        """Where the block stands, as `messages[0].content[1]`."""
        return describe(self.block)


def describe(address: Address) -> str:
    """Write an address as Python would: `messages[0].content[1]`."""
    index, *keys = address
    parts = [f"messages[{index}]"]
    for key in keys:
        if isinstance(key, str) and re.fullmatch(r"[A-Za-z_]\w{0,40}", key):
            parts.append(f".{key}")
        else:
            parts.append(f"[{str(key)[:40]!r}]" if isinstance(key, str) else f"[{key!r}]")
    return "".join(parts)


def check_depth(address: Address) -> None:
    """Refuse what is nested so deeply, or in a circle, that walking it would not end well.

    Raises:
        UnsupportedMediaError: If the address is deeper than `MAX_DEPTH`.
    """
    if len(address) > MAX_DEPTH:
        raise UnsupportedMediaError("nested too deeply to be understood", path=describe(address[:4]))
