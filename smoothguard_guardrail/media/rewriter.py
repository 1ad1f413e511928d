"""Writes media back into messages, each in its own dialect and form."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from PIL import Image

from smoothguard_guardrail.media.collector import is_media_object
from smoothguard_guardrail.media.dialects import UNKNOWN_SIZE_HINTS, is_identity
from smoothguard_guardrail.media.formats import Encoded, short_name
from smoothguard_guardrail.media.found_medium import Address, Found, check_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage

    Edit = Callable[[Any], Any]

REMOVED = "[attachment removed]"
"""Stands for a dropped value, or for the last dropped block of a list: providers refuse empty content."""
_DROP = object()


class Rewriter:
    """Collects edits by address, then copies messages with the edits made. The originals are only read.

    Args:
        share_objects: Whether images, tensors and arrays are left in place: copying may decode them.
    """

    def __init__(self, *, share_objects: bool = False) -> None:
        self._share_objects = share_objects
        self._edits: dict[Address, list[Edit]] = defaultdict(list)
        self._spans: dict[Address, list[tuple[int, int, str]]] = defaultdict(list)
        self._several: dict[Address, list[Rewriter]] = {}

    def drop(self, found: Found) -> None:
        """Remove the block of a medium, or only the medium from a plain text."""
        if found.span is not None:
            self._spans[found.leaf].append((*found.span, REMOVED))
        elif len(found.block) == 2:
            self._edits[found.block].append(lambda _: REMOVED)
        else:
            self._edits[found.block].append(lambda _: _DROP)

    def replace_block(self, found: Found, block: dict[str, Any]) -> None:
        """Replace a block."""
        self._edits[found.block].append(lambda _: block)

    def write_object(self, found: Found, value: Any) -> None:
        """Replace an image or waveform object."""
        self._edits[found.leaf].append(lambda _: value)
        self._forget(found)

    def write_several(self, found: Found, media: Sequence[Encoded | dict[str, Any]]) -> None:
        """Replace a block of a list by several, in order: copies of it with other bytes, or blocks as they are."""
        for medium in media:
            rewriter = Rewriter()
            if isinstance(medium, dict):
                rewriter.replace_block(found, medium)
            else:
                rewriter.write(found, medium)
            self._several.setdefault(found.block, []).append(rewriter)

    def write(self, found: Found, medium: Encoded) -> None:
        """Replace a medium by encoded bytes, update the declared media type, and remove what names the original."""
        encoded, mime_type = medium
        uri = f"data:{mime_type};base64,{encoded}"
        if found.span is not None:
            self._spans[found.leaf].append((*found.span, uri if found.form == "data_uri" else encoded))
            return
        self._forget(found)
        for address in found.declared:
            self._edits[address].append(lambda value: _declare(value, mime_type))
        if found.form in ("url", "path"):
            self._relocate(found.leaf, encoded, uri, mime_type)
            return
        written: Any = encoded
        if found.form == "data_uri":
            written = uri
        elif found.form == "bytes":
            written = medium.data
        elif found.form == "base64_bytes":
            written = encoded.encode("ascii")
        self._edits[found.leaf].append(lambda _: written)
        if not found.declared and found.form != "data_uri":
            key = found.leaf[-1]
            self._edits[found.leaf[:-1]].append(lambda node: _with_type(node, key, mime_type))

    def _forget(self, found: Found) -> None:
        """Remove identities and unknown hints from the dicts of a block, from the outermost to the one of the bytes."""
        in_a_list = isinstance(found.block[-1], int)
        for length in range(len(found.block) - (not in_a_list), len(found.leaf)):
            if length >= 2:
                self._edits[found.leaf[:length]].append(_forgotten)

    def _relocate(self, leaf: Address, encoded: str, uri: str, mime_type: str) -> None:
        """Replace a fetched reference by bytes in the same dialect."""
        key, holder, wrapper = leaf[-1], leaf[:-1], leaf[-2]

        def rewrite(node: dict[str, Any]) -> dict[str, Any]:
            others = {name: value for name, value in node.items() if name != key}
            if node.get("source_type") == "url":
                return others | {"source_type": "base64", "data": encoded, "mime_type": mime_type}
            if key == "url" and node.get("type") == "url":
                return others | {"type": "base64", "media_type": mime_type, "data": encoded}
            if key in ("url", "path") and node.get("type") in ("image", "audio", "video", "file"):
                return others | {"base64": encoded, "mime_type": mime_type}
            if key == "audio" and node.get("type") == "audio":
                return others | {"base64": encoded, "mime_type": mime_type}
            if key == "file_url":
                return {"filename": "document.pdf"} | others | {"file_data": uri}
            if key in ("file_uri", "fileUri"):
                name = "mimeType" if key == "fileUri" else "mime_type"
                return others | {name: mime_type, "data": encoded}
            return node | {key: uri}

        if key == leaf[1]:
            self._edits[leaf].append(lambda _: uri)
            return
        self._edits[holder].append(rewrite)
        renamed = {"file_data": "inline_data", "fileData": "inlineData"}.get(str(wrapper))
        if key in ("file_uri", "fileUri") and renamed:
            self._edits[holder[:-1]].append(
                lambda node: {renamed if name == wrapper else name: value for name, value in node.items()}
            )

    def apply(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """Return copies of the messages with every edit made."""
        return [self._message(index, message) for index, message in enumerate(messages)]

    def _message(self, index: int, message: BaseMessage) -> BaseMessage:
        fields = message.__dict__ | (message.model_extra or {})
        copies: dict[str, Any] = {}
        for name, value in fields.items():
            if name == "artifact":  # never sent, and may be large
                continue
            copy = self._copy(value, (index, name))
            copies[name] = REMOVED if copy is _DROP else copy
        return message.model_copy(update=copies)

    def _copies(self, node: Any, at: Address) -> list[Any]:
        """Copy an element of a list, once or, where several stand for it, once for each."""
        if at not in self._several:
            return [self._copy(node, at)]
        return [self._joined(rewriter)._copy(node, at) for rewriter in self._several[at]]

    def _joined(self, other: Rewriter) -> Rewriter:
        """Return a rewriter that makes the edits of both: a block of which there are copies may hold other media."""
        joined = Rewriter(share_objects=self._share_objects)
        joined._several = self._several
        for rewriter in (self, other):
            for address, edits in rewriter._edits.items():
                joined._edits[address] += edits
            for address, spans in rewriter._spans.items():
                joined._spans[address] += spans
        return joined

    def _copy(self, node: Any, at: Address) -> Any:
        check_depth(at)
        copy: Any
        if isinstance(node, dict):
            items = ((key, self._copy(value, (*at, key))) for key, value in node.items())
            copy = {key: value for key, value in items if value is not _DROP}
        elif isinstance(node, (list, tuple)):
            values = [copy for index, value in enumerate(node) for copy in self._copies(value, (*at, index))]
            remaining = [value for value in values if value is not _DROP]
            if values and not remaining:
                remaining = [_placeholder(node[0])]
            copy = tuple(remaining) if isinstance(node, tuple) else remaining
        else:
            copy = node if self._share_objects and is_media_object(node) else _copy_leaf(node)
        for start, stop, text in sorted(self._spans.get(at, ()), reverse=True):
            copy = copy[:start] + text + copy[stop:]
        for edit in self._edits.get(at, ()):
            copy = edit(copy) if copy is not _DROP else copy
        return copy


def _forgotten(node: Any) -> Any:
    """Return a dict without the keys that name the original, here and in the dicts inside, or else the value."""
    if not isinstance(node, dict):
        return node
    return {
        key: _forgotten(value) for key, value in node.items() if key not in UNKNOWN_SIZE_HINTS and not is_identity(key)
    }


def _placeholder(dropped: Any) -> Any:
    """Return a text in the dialect of a dropped block."""
    if isinstance(dropped, dict) and "type" not in dropped:
        return {"text": REMOVED}
    if isinstance(dropped, dict):
        kind = "input_text" if str(dropped["type"]).startswith(("input_", "computer_")) else "text"
        return {"type": kind, "text": REMOVED}
    return REMOVED


def _declare(declared: str, mime_type: str) -> str:
    """Return a media type or a short name, whichever the block had."""
    return mime_type if "/" in declared else short_name(mime_type)


def _with_type(node: Any, key: Any, mime_type: str) -> Any:
    """Add the media type where the dialect needs one next to the bytes."""
    if not isinstance(node, dict):
        return node
    if key == "base64" or node.get("source_type") == "base64":
        return node | {"mime_type": mime_type}
    if node.get("type") == "base64":
        return node | {"media_type": mime_type}
    return node


def _copy_leaf(value: Any) -> Any:
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Image.Image):
        return value.copy()
    if is_media_object(value):
        return value.detach().clone() if hasattr(value, "detach") else value.copy()
    return value
