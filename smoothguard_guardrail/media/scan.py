"""Finds every medium in a list of messages, in any dialect, and every block that is not understood.

Everything that may be sent to a model is walked, raw: `content`, `additional_kwargs`, tool calls and extra fields, of
messages of every role. `artifact`, `response_metadata`, `usage_metadata`, `id` and `name` are not sent to models as
media and not walked.

How strict it is depends on where a value stands:

- A block of `content` must be understood. An unknown type, or a block of media without a payload, is found as
  `unknown`.
- In `additional_kwargs` and tool results, blocks that declare themselves media are found, references included; other
  dicts may hold anything.
- In the arguments of tools and in extras of blocks, a URL is text, but bytes are bytes: data URIs, base64 of a known
  format, `bytes`, images and tensors are found.
- In plain text, data URIs and base64 of a known format are found.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage
from pydantic import BaseModel

from smoothguard_guardrail.media import dialects
from smoothguard_guardrail.media.collector import Block, Collector, is_media_object, is_url
from smoothguard_guardrail.media.formats import sniff
from smoothguard_guardrail.media.found_medium import UNSENT_FIELDS, Address, Found, check_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_core.messages import BaseMessage

    _Walk = Callable[[Any, Address], None]

_LANGCHAINS_ID = "lc_"
"""How the ids begin that LangChain gives to blocks; all others are a provider's."""
_GENERATED = {"image", "audio", "video", "file"}
_JSON_FIELDS = {"tool_calls", "invalid_tool_calls", "tool_call_chunks"}


def scan(messages: Sequence[BaseMessage]) -> list[Found]:
    """Return the media of the messages in order of appearance.

    Raises:
        UnsupportedMediaError: A message is nested too deeply to be walked.
    """
    scanner = _Scanner()
    for index, message in enumerate(messages):
        scanner.message(index, message)
    return scanner.found


class _Scanner(Collector):
    def __init__(self) -> None:
        super().__init__()
        self._answers: set[int] = set()
        """Indices of the messages that a model wrote."""
        self._seen: set[int] = set()

    def message(self, index: int, message: BaseMessage) -> None:
        if isinstance(message, AIMessage):
            self._answers.add(index)
        extras = message.additional_kwargs
        if extras.get("type") == "computer_call_output" and is_url(message.content):
            at = (index, "content")
            self.reference(str(message.content), at, Block(at, "image", replaceable=False))
        else:
            self.content(message.content, (index, "content"))
        for name, value in (message.__dict__ | (message.model_extra or {})).items():
            if name in _JSON_FIELDS:
                self._plain(value, (index, name))
            elif name != "content" and name not in UNSENT_FIELDS:
                self._loose(value, (index, name))

    def content(self, node: Any, at: Address) -> None:
        """Walk content: a text, a block, or a list of either."""
        check_depth(at)
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self.content(item, (*at, index))
        elif isinstance(node, dict):
            self._block(node, at)
        else:
            self.value(node, at, Block(at, "unknown", replaceable=False))

    def _block(self, block: dict[Any, Any], at: Address) -> None:
        kind = block.get("type")
        strong = {key: hint for key, hint in dialects.STRONG_KEYS.items() if block.get(key) is not None}
        weak = {key: hint for key, hint in dialects.WEAK_KEYS.items() if block.get(key) is not None}
        if kind is None:
            self._untyped(block, strong | weak, at)
        elif not isinstance(kind, str):
            self.unknown(block, at, "expected a string as its type")
        elif kind in dialects.MEDIA_TYPES:
            self._media_block(block, dialects.MEDIA_TYPES[kind], at)
        elif kind in dialects.CONTAINER_TYPES:
            self._safe(block, strong | weak, at, inside=self.content)
        elif kind in dialects.SAFE_TYPES or kind.endswith("_tool_result_error"):
            self._safe(block, strong | weak, at, inside=self._loose)
        else:
            self.unknown(block, at, f"blocks of type {kind[:40]!r} are not known")

    def _untyped(self, block: dict[Any, Any], media: dict[str, str], at: Address) -> None:
        if dialects.UNTYPED_SAFE_KEYS & block.keys():
            self._safe(block, media, at, inside=self._loose)
        elif media:
            self._media_block(block, next(iter(media.values())), at)
        elif block:
            self.unknown(block, at, "it has neither a type nor a known key")

    def _safe(
        self, block: dict[Any, Any], media: dict[str, str], at: Address, *, inside: Callable[[Any, Address], None]
    ) -> None:
        """Walk a block that is not a medium itself but may carry one."""
        for key, value in block.items():
            here = (*at, key)
            if key in media and (key in dialects.STRONG_KEYS or not isinstance(value, str)):
                self._claim({key: value}, at, Block(here, media[key], replaceable=False))
            elif key in ("toolResult", "tool_result") and isinstance(value, dict):
                self._safe(value, {}, here, inside=self.content)
            elif key in dialects.CONTENT_KEYS:
                inside(value, here)
            elif key in ("functionResponse", "function_response", "guardContent", "guard_content"):
                self._loose(value, here)
            else:
                self._plain(value, here)

    def _media_block(self, block: dict[Any, Any], kind: str, at: Address, *, replaceable: bool = True) -> None:
        owner = Block(at, kind, replaceable=replaceable)
        if block.get("id") and (
            block.get("type") == "image_generation_call"
            or block.get("source_type") == "id"
            or self._is_generated(block, at)
        ):
            self.add(owner, "file_id", block["id"], (*at, "id"), kind="file_id")
        else:
            self._claim(block, at, owner)

    def _is_generated(self, block: dict[Any, Any], at: Address) -> bool:
        """Return whether a provider made the medium and keeps it: adapters then send its id instead of its bytes."""
        name = str(block["id"])
        return at[0] in self._answers and block.get("type") in _GENERATED and not name.startswith(_LANGCHAINS_ID)

    def _claim(self, block: dict[Any, Any], at: Address, owner: Block) -> None:
        """Find the one medium of a block; a block with none, or with several to pick from, is not understood."""
        before = len(self.found)
        self._media(block, at, owner)
        if owner.claims > 1:
            del self.found[before:]
            self.unknown(
                block, owner.address, "it holds several media, and models differ in which one they take", owner
            )
        elif not owner.claims and not owner.is_text:
            self.unknown(block, owner.address, "it holds no known medium", owner)

    def _media(self, node: dict[Any, Any], at: Address, owner: Block) -> None:
        """Walk one dict of a block of media."""
        check_depth(at)
        has_text = node.get("type") == "text"
        owner.declared += [(*at, key) for key in dialects.MIME_KEYS if isinstance(node.get(key), str)]
        for key, value in node.items():
            here = (*at, key)
            if value is None or (isinstance(value, str) and not value) or key in dialects.MIME_KEYS:
                continue
            self.key(key, at)
            if key == "content":
                owner.is_text |= owner.kind == "file"
                self.content(value, here)
            elif isinstance(value, str) and (key == "text" or (has_text and key in dialects.DATA_KEYS)):
                owner.is_text |= owner.kind == "file"
                self.text(value, here)
            elif key in ("s3Location", "s3_location"):
                owner.claims += 1
                self.add(owner, "url", str(value.get("uri") if isinstance(value, dict) else value), here)
            elif key in dialects.ID_KEYS:
                owner.claims += 1
                self.add(owner, "file_id", value, here, kind="file_id")
            elif key in dialects.WRAPPER_KEYS and isinstance(value, dict):
                owner.kind = dialects.WRAPPER_KEYS[key] or owner.kind
                self._media(value, here, owner)
            elif key == "uri" and (node.get("blob") or isinstance(node.get("text"), str)):
                continue
            elif key in dialects.DATA_KEYS or key in dialects.REFERENCE_KEYS or key in dialects.WRAPPER_KEYS:
                owner.claims += 1
                self.payload(key, value, here, owner)
            else:
                self._plain(value, here)

    def _loose(self, node: Any, at: Address) -> None:
        """Walk a value of any kind, which may hold blocks of media."""
        check_depth(at)
        if isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self._loose(item, (*at, index))
        elif isinstance(node, dict):
            self._loose_dict(node, at)
        else:
            self._plain(node, at)

    def _loose_dict(self, node: dict[Any, Any], at: Address) -> None:
        kind = node.get("type")
        if isinstance(kind, str) and kind in dialects.MEDIA_TYPES and _is_media(node):
            self._media_block(node, dialects.MEDIA_TYPES[kind], at, replaceable=False)
            return
        for key, value in node.items():
            here = (*at, key)
            self.key(key, at)
            if here[1:] == ("additional_kwargs", "audio") and isinstance(value, dict) and value.get("id"):
                self.add(Block(here, "file_id", replaceable=False), "file_id", value["id"], (*here, "id"))
            elif _is_loose_medium(key, value):
                hint = (dialects.STRONG_KEYS | dialects.WEAK_KEYS)[key]
                self._claim({key: value}, at, Block(here, hint, replaceable=False))
            else:
                self._loose(value, here)

    def _plain(self, node: Any, at: Address) -> None:
        """Walk a value in which only bytes, objects and encoded media count."""
        check_depth(at)
        if isinstance(node, dict):
            for key, value in node.items():
                self.key(key, at)
                if isinstance(value, bytes) and key in dialects.OPAQUE_KEYS and sniff(value) is None:
                    continue
                self._plain(value, (*at, key))
        elif isinstance(node, (list, tuple)):
            for index, item in enumerate(node):
                self._plain(item, (*at, index))
        elif isinstance(node, (str, bytes, bytearray, memoryview)) or _looks_like_an_image(node):
            self.value(node, at, Block(at, "unknown", replaceable=False))
        elif not isinstance(node, (bool, int, float, type(None))) and not is_media_object(node):
            self._object(node, at)

    def _object(self, node: Any, at: Address) -> None:
        """Look into plain data that cannot be written back; what no adapter can send is not looked into."""
        inside = _plain_data(node)
        if inside is None or id(node) in self._seen:
            return
        hidden = _Scanner()
        hidden._seen = self._seen | {id(node)}
        hidden._loose(inside, at)
        if hidden.found or hasattr(node, "read"):
            self.unknown(node, at, f"an object of type {type(node).__name__} holds media")


def _looks_like_an_image(node: Any) -> bool:
    """Return whether an object is a picture; arrays of numbers are embeddings more often, and no adapter sends them."""
    if not is_media_object(node):
        return False
    shape = tuple(getattr(node, "shape", ()))
    has_channels = len(shape) == 3 and (shape[0] in (1, 3, 4) or shape[2] in (1, 3, 4))
    return not hasattr(node, "shape") or has_channels or (len(shape) == 2 and str(node.dtype).endswith("uint8"))


def _plain_data(node: Any) -> Any:
    """Return what an object holds that adapters may write as JSON; None if it is not made to be written."""
    if isinstance(node, (set, frozenset)):
        return list(node)
    if isinstance(node, (type, enum.Enum)):
        return None
    if is_dataclass(node):
        return {field.name: getattr(node, field.name, None) for field in fields(node)}
    if isinstance(node, (BaseModel, SimpleNamespace)):
        return dict(vars(node))
    if isinstance(node, Mapping):
        return dict(node)
    return [] if hasattr(node, "read") else None


def _is_media(node: dict[Any, Any]) -> bool:
    """Return whether a dict of any kind looks like a medium."""
    keys = dialects.DATA_KEYS | dialects.ID_KEYS | dialects.STRONG_KEYS.keys() | dialects.WEAK_KEYS.keys()
    keys |= {"url", "uri", "file_uri", "fileUri", "s3Location"}
    return isinstance(node.get("source"), dict) or any(node.get(key) is not None for key in keys)


def _is_loose_medium(key: Any, value: Any) -> bool:
    """Return whether a key of a dict of any kind means a medium; a URL under `image` is text there."""
    if key in ("inline_data", "inlineData", "file_data", "fileData", "input_audio"):
        return isinstance(value, dict) and _is_media(value)
    known = key in dialects.STRONG_KEYS or key in dialects.WEAK_KEYS
    return known and (is_media_object(value) or (isinstance(value, dict) and isinstance(value.get("source"), dict)))
