"""A medium in messages, and its address there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from smoothguard_guardrail.errors import UnsupportedMediaError

MAX_DEPTH = 64
"""Deepest nesting in one message."""

UNSENT_FIELDS = {"artifact", "response_metadata", "usage_metadata", "id", "name", "type"}
"""Fields of messages that no adapter sends as media: they are not walked."""

Address = tuple[Any, ...]
"""Index of the message, name of its field, then keys and indices down to a value."""

Form = Literal["data_uri", "base64", "base64_bytes", "bytes", "object", "url", "path", "file_id", "unknown"]
"""How the value encodes the medium. `base64_bytes`: base64 as ASCII bytes; `object`: a Pillow image, tensor or array;
`url`, `path` and `file_id` are references; `unknown`: the block is not understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One medium, or one block that is not understood."""

    kind: str
    """`image`, `audio`, `video`, `pdf`, `file`, `embedding`, `file_id` or `unknown`: as declared, not sniffed."""
    form: Form
    value: Any
    """The string, bytes or object; for a span, the part of the string."""
    leaf: Address
    """Address of that value."""
    block: Address
    """Address of what is removed when the medium is dropped."""
    replaceable: bool
    """Whether `block` may be replaced by a block with a tensor."""
    declared: tuple[Address, ...] = ()
    """Addresses at which the block declares a media type or format."""
    span: tuple[int, int] | None = None
    """Start and stop in a plain text; None if the value is the whole medium."""
    reason: str | None = None
    """Why a block of form `unknown` is not understood."""

    @property
    def can_be_several(self) -> bool:
        """Whether several blocks may stand for it: a block of its own in a list of content."""
        return self.replaceable and self.span is None and len(self.block) > 2 and isinstance(self.block[-1], int)

    @property
    def path(self) -> str:
        """Address of the block as a string, such as `messages[0].content[1]`."""
        return describe(self.block)


def describe(address: Address) -> str:
    """Format an address as Python would: `messages[0].content[1]`."""
    index, *keys = address
    parts = [f"messages[{index}]"]
    for key in keys:
        if isinstance(key, str) and re.fullmatch(r"[A-Za-z_]\w{0,40}", key):
            parts.append(f".{key}")
        else:
            parts.append(f"[{str(key)[:40]!r}]" if isinstance(key, str) else f"[{key!r}]")
    return "".join(parts)


def check_depth(address: Address) -> None:
    """Refuse values that are nested too deeply, or in a circle.

    Raises:
        UnsupportedMediaError: The address is deeper than `MAX_DEPTH`.
    """
    if len(address) > MAX_DEPTH:
        raise UnsupportedMediaError("nested too deeply to be understood", path=describe(address[:4]))
