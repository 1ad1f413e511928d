"""The doors of the server, and the shapes and places in which a client can send a medium through each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.doors.files import File

Part = Callable[[File], Any]
Place = Callable[[Any], dict[str, Any]]

TEXT = {"type": "text", "text": "What is it?"}
MODEL = "listening"
TEXT_SHAPES = {"data URI in a text", "base64 in a text"}
TEXT_PLACES = {"tool as JSON", "arguments", "instructions", "tools", "texts alone"}
"""Where everything that a part holds is text to the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One endpoint."""

    name: str
    path: str
    parts: Mapping[str, Part]
    """Shapes of a medium."""
    places: Mapping[str, Place]
    """Where in a request a part can stand."""

    def requests(self, file: File) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a name and a body for every shape in every place."""
        for shape, part in self.parts.items():
            for where, place in self.places.items():
                if file.is_text_in_text and (shape in TEXT_SHAPES or where in TEXT_PLACES):
                    continue
                yield f"{self.name}: {file.name}, {shape}, {where}", place(part(file))


def _chat_call(arguments: Any) -> dict[str, Any]:
    return {"id": "c", "type": "function", "function": {"name": "look", "arguments": json.dumps({"at": arguments})}}


def _chat(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [*messages, {"role": "user", "content": [TEXT]}]}


_CHAT_PARTS: dict[str, Part] = {
    "image_url": lambda file: {"type": "image_url", "image_url": {"url": file.uri}},
    "image_url of base64": lambda file: {"type": "image_url", "image_url": file.base64},
    "image_url of another type": lambda file: {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{file.base64}"},
    },
    "input_audio": lambda file: {"type": "input_audio", "input_audio": {"data": file.base64, "format": file.name}},
    "file": lambda file: {"type": "file", "file": {"file_data": file.uri, "filename": f"a.{file.name}"}},
    "video_url": lambda file: {"type": "video_url", "video_url": {"url": file.uri}},
    "data URI in a text": lambda file: {"type": "text", "text": f"Look at {file.uri} closely."},
    "base64 in a text": lambda file: {"type": "text", "text": file.base64},
    "unknown part": lambda file: {"type": "picture", "data": file.base64},
    "key beside a text": lambda file: TEXT | {"image_url": {"url": file.uri}},
}
_CHAT_PLACES: dict[str, Place] = {
    "user": lambda part: _chat({"role": "user", "content": [TEXT, part]}),
    "system": lambda part: _chat({"role": "system", "content": [part]}),
    "answer": lambda part: _chat({"role": "assistant", "content": [part]}),
    "tool": lambda part: _chat(
        {"role": "assistant", "content": "", "tool_calls": [_chat_call("?")]},
        {"role": "tool", "tool_call_id": "c", "content": [part]},
    ),
    "tool as JSON": lambda part: _chat(
        {"role": "assistant", "content": "", "tool_calls": [_chat_call("?")]},
        {"role": "tool", "tool_call_id": "c", "content": json.dumps(part)},
    ),
    "arguments": lambda part: _chat({"role": "assistant", "content": "", "tool_calls": [_chat_call(part)]}),
    "extra key": lambda part: _chat({"role": "user", "content": "?", "images": [part]}),
}

_RESPONSES_TEXT = {"type": "input_text", "text": "What is it?"}
_RESPONSES_CALL = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}


def _responses(*items: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": [*items, {"role": "user", "content": [_RESPONSES_TEXT]}], **extra}


_RESPONSES_PARTS: dict[str, Part] = {
    "input_image": lambda file: {"type": "input_image", "image_url": file.uri},
    "input_image of another type": lambda file: {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{file.base64}",
    },
    "input_file": lambda file: {"type": "input_file", "file_data": file.uri, "filename": f"a.{file.name}"},
    "input_audio": lambda file: {"type": "input_audio", "input_audio": {"data": file.base64, "format": file.name}},
    "data URI in a text": lambda file: {"type": "input_text", "text": f"Look at {file.uri} closely."},
    "unknown part": lambda file: {"type": "picture", "data": file.base64},
}
_RESPONSES_PLACES: dict[str, Place] = {
    "user": lambda part: _responses({"role": "user", "content": [_RESPONSES_TEXT, part]}),
    "system": lambda part: _responses({"role": "system", "content": [part]}),
    "answer": lambda part: _responses({"role": "assistant", "content": [part]}),
    "tool": lambda part: _responses(
        _RESPONSES_CALL, {"type": "function_call_output", "call_id": "c", "output": [part]}
    ),
    "tool as JSON": lambda part: _responses(
        _RESPONSES_CALL, {"type": "function_call_output", "call_id": "c", "output": json.dumps(part)}
    ),
    "computer": lambda part: _responses({"type": "computer_call_output", "call_id": "c", "output": part}),
    "arguments": lambda part: _responses(_RESPONSES_CALL | {"arguments": json.dumps({"at": part})}),
    "instructions": lambda part: _responses(instructions=json.dumps(part)),
    "item": lambda part: _responses(part),
}

_CLAUDE_CALL = {"type": "tool_use", "id": "c", "name": "look", "input": {}}


def _claude(*messages: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "model": MODEL,
        "max_tokens": 99,
        "messages": [*messages, {"role": "user", "content": [TEXT]}],
        **extra,
    }


def _claude_result(content: Any) -> dict[str, Any]:
    return _claude(
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": [_CLAUDE_CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": content}]},
    )


def _source(file: File, media_type: str | None = None) -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type or file.mime_type, "data": file.base64}


_CLAUDE_PARTS: dict[str, Part] = {
    "image": lambda file: {"type": "image", "source": _source(file)},
    "image of another type": lambda file: {"type": "image", "source": _source(file, "image/png")},
    "image by data URI": lambda file: {"type": "image", "source": {"type": "url", "url": file.uri}},
    "document": lambda file: {"type": "document", "source": _source(file), "title": "a"},
    "document of content": lambda file: {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "image", "source": _source(file)}]},
    },
    "data URI in a text": lambda file: {"type": "text", "text": f"Look at {file.uri} closely."},
    "unknown block": lambda file: {"type": "picture", "data": file.base64},
}
_CLAUDE_PLACES: dict[str, Place] = {
    "user": lambda part: _claude({"role": "user", "content": [TEXT, part]}),
    "system": lambda part: _claude(system=[part]),
    "answer": lambda part: _claude({"role": "user", "content": "?"}, {"role": "assistant", "content": [part]}),
    "tool": lambda part: _claude_result([part]),
    "tool as JSON": lambda part: _claude_result(json.dumps(part)),
    "arguments": lambda part: _claude(
        {"role": "user", "content": "?"}, {"role": "assistant", "content": [_CLAUDE_CALL | {"input": {"at": part}}]}
    ),
}

_LANGCHAIN_PARTS: dict[str, Part] = {
    "v1 block": lambda file: {"type": file.kind, "base64": file.base64, "mime_type": file.mime_type},
    "v1 block of another type": lambda file: {"type": "image", "base64": file.base64, "mime_type": "image/png"},
    "v0 block": lambda file: {
        "type": file.kind,
        "source_type": "base64",
        "data": file.base64,
        "mime_type": file.mime_type,
    },
    "MCP": lambda file: {"type": file.kind, "data": file.base64, "mimeType": file.mime_type},
    "Google": lambda file: {"type": "media", "mime_type": file.mime_type, "data": file.base64},
    "Bedrock": lambda file: {"document": {"format": file.name, "name": "a", "source": {"bytes": file.base64}}},
    "data URI in a text": lambda file: {"type": "text", "text": f"Look at {file.uri} closely."},
}


def _langchain(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"input": [*messages, {"type": "human", "content": [TEXT]}]}


def _langchain_call(arguments: Any) -> dict[str, Any]:
    return {"type": "ai", "content": "", "tool_calls": [{"name": "look", "args": {"at": arguments}, "id": "c"}]}


_LANGCHAIN_PLACES: dict[str, Place] = {
    "human": lambda part: _langchain({"type": "human", "content": [TEXT, part]}),
    "system": lambda part: _langchain({"type": "system", "content": [part]}),
    "answer": lambda part: _langchain({"type": "ai", "content": [part]}),
    "tool": lambda part: _langchain(_langchain_call("?"), {"type": "tool", "tool_call_id": "c", "content": [part]}),
    "arguments": lambda part: _langchain(_langchain_call(part)),
    "additional_kwargs": lambda part: _langchain(
        {"type": "human", "content": "?", "additional_kwargs": {"images": [part]}}
    ),
}

_LITELLM_PLACES: dict[str, Place] = {
    "structured_messages": lambda part: _litellm([{"role": "user", "content": [TEXT, part]}]),
    "tool message": lambda part: _litellm([{"role": "tool", "tool_call_id": "c", "content": [part]}]),
    "arguments": lambda part: _litellm([{"role": "assistant", "content": "", "tool_calls": [_chat_call(part)]}]),
    "tools": lambda part: _litellm([{"role": "user", "content": "?"}], tools=[part]),
    "texts alone": lambda part: _litellm(None, texts=[json.dumps(part)]),
}


def _litellm(messages: Any, **extra: Any) -> dict[str, Any]:
    body = {"input_type": "request", "litellm_version": "1.110.2", "structured_messages": messages, "texts": ["?"]}
    return body | extra


DOORS = (
    Door(name="chat completions", path="/v1/chat/completions", parts=_CHAT_PARTS, places=_CHAT_PLACES),
    Door(name="responses", path="/v1/responses", parts=_RESPONSES_PARTS, places=_RESPONSES_PLACES),
    Door(name="messages", path="/v1/messages", parts=_CLAUDE_PARTS, places=_CLAUDE_PLACES),
    Door(name="LangServe", path=f"/guards/{MODEL}/invoke", parts=_LANGCHAIN_PARTS, places=_LANGCHAIN_PLACES),
    Door(
        name="form",
        path=f"/forms/{MODEL}/invoke",
        parts={"file": lambda file: file.base64},
        places={"file": lambda part: {"input": {"file": part, "question": "What is it?"}}},
    ),
    Door(name="LiteLLM", path="/beta/litellm_basic_guardrail_api", parts=_CHAT_PARTS, places=_LITELLM_PLACES),
)
