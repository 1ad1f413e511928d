"""Decides what a single value in a message is, and collects the media."""

from __future__ import annotations

import re
from typing import Any

from smoothguard_guardrail.media import dialects
from smoothguard_guardrail.media.formats import sniff
from smoothguard_guardrail.media.found_medium import Address, Form, Found
from smoothguard_guardrail.media.strings import find_spans, sniff_base64, split_data_uri

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_OBJECT_CLASSES = {"torch": "Tensor", "numpy": "ndarray", "PIL": "Image"}


def is_media_object(value: object) -> bool:
    """Return whether a value is a tensor, array or Pillow image, without importing their packages."""
    return any(
        cls.__module__.partition(".")[0] == package and cls.__name__ == name
        for cls in type(value).__mro__
        for package, name in _OBJECT_CLASSES.items()
    )


def is_url(value: object) -> bool:
    """Return whether the value is a string with a scheme, `data:` and `file:` included."""
    return isinstance(value, str) and _SCHEME.match(value.strip()) is not None


class Block:
    """What is known about a block of media while it is walked."""

    def __init__(self, address: Address, kind: str, *, replaceable: bool = True) -> None:
        self.address = address
        self.kind = kind
        self.replaceable = replaceable
        self.declared: list[Address] = []
        self.claims = 0
        self.is_text = False


class Collector:
    """Collects media value by value."""

    def __init__(self) -> None:
        self.found: list[Found] = []

    def payload(self, key: Any, value: Any, at: Address, owner: Block) -> None:
        """Add the payload of a block of media."""
        if owner.kind == "embedding":
            self.add(owner, "unknown", value, at, reason="embeddings cannot be perturbed")
        elif isinstance(value, (bool, int, float)):
            self.add(owner, "unknown", value, at, reason=f"expected a medium under {key!r}, got a number")
        elif not isinstance(value, str):
            self.value(value, at, owner)
        elif split_data_uri(value) is not None:
            self.add(owner, "data_uri", value, at)
        elif key in dialects.DATA_KEYS:
            self.add(owner, "base64", value, at)
        elif key in dialects.REFERENCE_KEYS:
            self.reference(value, at, owner)
        else:
            self.add(owner, "unknown", value, at, reason=f"expected a medium under {key!r}, got text")

    def reference(self, value: str, at: Address, owner: Block) -> None:
        """Add a string from a place for URLs: a data URI, base64, a URL or a path."""
        stripped = value.strip()
        if split_data_uri(stripped) is not None:
            self.add(owner, "data_uri", value, at)
        elif len(stripped) >= 16 and sniff_base64(stripped) is not None:
            self.add(owner, "base64", value, at)
        elif is_url(stripped) and not stripped.lower().startswith("file:"):
            self.add(owner, "url", value, at)
        else:
            self.add(owner, "path", value, at)

    def value(self, value: Any, at: Address, owner: Block) -> None:
        """Add a value from a place where any type may stand, if it is a medium or not understood."""
        if isinstance(value, str):
            self.text(value, at)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value)
            encoded = sniff(data) is None and data.isascii() and sniff_base64(data.decode()) is not None
            self.add(owner, "base64_bytes" if encoded else "bytes", data, at)
        elif is_media_object(value):
            self.add(owner, "object", value, at)
        elif value is not None and not isinstance(value, (bool, int, float)):
            reason = f"expected a medium, got a value of type {type(value).__name__}"
            self.add(owner, "unknown", value, at, reason=reason)

    def text(self, text: str, at: Address) -> None:
        """Add the media in plain text."""
        for span in find_spans(text):
            kind = span.sniffed.kind if span.sniffed else "unknown"
            self.found.append(
                Found(
                    kind=kind,
                    form="data_uri" if span.is_uri else "base64",
                    value=span.value,
                    leaf=at,
                    block=at,
                    replaceable=False,
                    span=(span.start, span.stop),
                )
            )

    def key(self, key: Any, at: Address) -> None:
        """Add a key whose name hides a medium."""
        if isinstance(key, str) and len(key) > 32 and find_spans(key):
            self.unknown(key, (*at, key), "the name of a key hides a medium")

    def unknown(self, value: Any, at: Address, reason: str, owner: Block | None = None) -> None:
        """Add what is not understood."""
        owner = owner or Block(at, "unknown", replaceable=False)
        self.add(owner, "unknown", value, at, kind="unknown", reason=reason)

    def add(
        self,
        owner: Block,
        form: Form,
        value: Any,
        leaf: Address,
        *,
        kind: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Add a medium."""
        self.found.append(
            Found(
                kind=kind or owner.kind,
                form=form,
                value=value,
                leaf=leaf,
                block=owner.address,
                replaceable=owner.replaceable,
                declared=tuple(owner.declared),
                reason=reason,
            )
        )
