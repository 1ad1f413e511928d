"""What an answer does beside its text: tool calls of every form, server tools, media."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage

_TEXT_BLOCKS = frozenset({"text", "output_text", "text-plain", "refusal"})
_REASONING = frozenset({"reasoning", "thinking", "redacted_thinking", "reasoning_content"})
_CALL_BLOCKS = frozenset(
    {"tool_use", "tool_call", "function_call", "custom_tool_call", "invalid_tool_call", "tool_call_chunk"}
)
_COUNTED_ELSEWHERE = _TEXT_BLOCKS | _REASONING | _CALL_BLOCKS | {"input_json_delta"}
# Differ between two answers that do the same.
_VOLATILE = frozenset(
    {
        "id", "call_id", "tool_call_id", "tool_use_id", "item_id", "container_id", "index", "status", "created",
        "created_at", "expires_at", "signature", "thought_signature", "encrypted_content", "cache_control", "error",
        "caller",
    }
)  # fmt: skip
_UNVOTED_KWARGS = frozenset({"audio", "refusal", "function_call", "tool_calls", "parsed", "citations", "logprobs"})
_MAX_PLAIN = 256
# A data URI, or base64, in one line or in several.
_ENCODED = re.compile(r"\s*(data:[^,]{0,200},|[A-Za-z0-9+/_=-]{200}|([A-Za-z0-9+/_=-]{60,}\s+){2})")


def answer_actions(message: AIMessage) -> tuple[str, ...]:
    """Return what an answer does beside its text, one line each, sorted.

    A tool call is `name(arguments)`, whether it is valid, invalid, a legacy `function_call` or a block that no parser
    has turned into a call. Server tools are calls too; of their results only the kind and the media count, since the
    call decides what the provider finds. Media count by their SHA-256; audio with a transcript counts by its
    transcript, which is text. Any other block counts by its content. Ids, indices and signatures do not count, and
    neither does reasoning.

    Example:
        >>> answer_actions(AIMessage("", additional_kwargs={"function_call": {"name": "open", "arguments": "{}"}}))
        ('open({})',)
    """
    return tuple(sorted([*_calls(message), *_block_actions(message), *_extra_actions(message)]))


def _calls(message: AIMessage) -> Iterator[str]:
    """Yield the tool calls, each once, however many of the message's fields hold it."""
    parsed = [(str(call["name"]), json_form(call["args"])) for call in message.tool_calls]
    parsed += [(str(call["name"]), _arguments(call["args"])) for call in message.invalid_tool_calls]
    raw = [
        (str(block.get("name")), _arguments(block.get("input", block.get("args", block.get("arguments")))))
        for block in blocks(message)
        if block.get("type") in _CALL_BLOCKS
    ]
    functions = [call.get("function") for call in _mappings(message.additional_kwargs.get("tool_calls"))]
    copies = [(str(each.get("name")), _arguments(each.get("arguments"))) for each in _mappings(functions)]
    legacy = _mappings([message.additional_kwargs.get("function_call")])
    copies += [(str(each.get("name")), _arguments(each.get("arguments"))) for each in legacy]
    calls = list(parsed)
    for mirror in (raw, copies):
        remaining = list(calls)
        for call in mirror:
            if call in remaining:
                remaining.remove(call)
            else:
                calls.append(call)
    yield from (f"{name}({arguments})" for name, arguments in calls)


def _block_actions(message: AIMessage) -> Iterator[str]:
    for block in blocks(message):
        kind = str(block.get("type"))
        if kind in _COUNTED_ELSEWHERE:
            continue
        if kind == "audio" and isinstance(block.get("transcript"), str) and block["transcript"].strip():
            continue
        if kind.endswith(("_result", "_output")):
            yield f"{kind}({', '.join(sorted(_media_hashes(block)))})"
        else:
            yield f"{kind}({json_form(_stable(block))})"


def _extra_actions(message: AIMessage) -> Iterator[str]:
    audio = message.additional_kwargs.get("audio")
    if isinstance(audio, Mapping) and not str(audio.get("transcript") or "").strip():
        yield f"audio({json_form(_stable(audio))})"
    for name, value in message.additional_kwargs.items():
        if name in _UNVOTED_KWARGS or name in _REASONING:
            continue
        if name.endswith("tool_outputs"):
            yield f"{name}({json_form(_stable(value))})"
        elif found := sorted(_media_hashes(value)):
            yield f"{name}({', '.join(found)})"


def blocks(message: AIMessage) -> list[Mapping[str, Any]]:
    """Return the content blocks that are mappings; none where the content is a string."""
    content = message.content
    return [] if isinstance(content, str) else _mappings(content)


def _mappings(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _arguments(value: object) -> str:
    """Return the arguments of a call in one form, whether they are parsed or still JSON text."""
    if not isinstance(value, str):
        return json_form({} if value is None else value)
    try:
        return json_form(json.loads(value))
    except (ValueError, RecursionError):
        return value


def _stable(value: object) -> object:
    """Return a value without what differs between equal answers, with long strings and bytes as hashes."""
    if isinstance(value, Mapping):
        return {str(name): _stable(item) for name, item in value.items() if name not in _VOLATILE}
    if isinstance(value, (list, tuple)):
        return [_stable(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)) or (isinstance(value, str) and len(value) > _MAX_PLAIN):
        return _hash(value)
    return value


def _media_hashes(value: object) -> Iterator[str]:
    """Yield the hashes of all bytes and encoded media in a value."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _media_hashes(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _media_hashes(item)
    elif isinstance(value, (bytes, bytearray, memoryview)) or (isinstance(value, str) and _ENCODED.match(value)):
        yield _hash(value)


def _hash(value: str | bytes | bytearray | memoryview) -> str:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def json_form(value: object) -> str:
    """Return a value as JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
