"""How clients of each door of the server ask about an image, and how they read the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

Body = dict[str, Any]
Answer = tuple[str, dict[str, Any]]
"""The text of an answer, and the guard's record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One kind of client."""

    path: str
    body: Callable[[str, str], Body]
    """From a text and a PNG in base64 to a request."""
    read: Callable[[httpx.Response], Answer]
    """Raises `ValueError` or `KeyError` for an answer that is not whole."""


def _chat(text: str, png: str, **extra: Any) -> Body:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    return {
        "model": "echo",
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}, image]}],
        **extra,
    }


def _read_chat(response: httpx.Response) -> Answer:
    whole = response.json()
    return whole["choices"][0]["message"]["content"], whole["smoothguard"]


def _read_chat_stream(response: httpx.Response) -> Answer:
    *events, done = response.text.strip().split("\n\n")
    if done != "data: [DONE]":
        raise ValueError("the stream was cut")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    return text, chunks[-1]["smoothguard"]


def _responses(text: str, png: str, **extra: Any) -> Body:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{png}"}
    content = [{"type": "input_text", "text": text}, image]
    return {"model": "echo", "input": [{"role": "user", "content": content}], **extra}


def _read_responses(whole: dict[str, Any]) -> Answer:
    return whole["output"][0]["content"][0]["text"], whole["smoothguard"]


def _read_responses_stream(response: httpx.Response) -> Answer:
    events = _events(response)
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    text, record = _read_responses(events[-1]["response"])
    if events[-1]["type"] != "response.completed" or deltas != text:
        raise ValueError("the stream was cut")
    return text, record


def _messages(text: str, png: str, **extra: Any) -> Body:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}
    content = [{"type": "text", "text": text}, image]
    return {"model": "echo", "max_tokens": 99, "messages": [{"role": "user", "content": content}], **extra}


def _read_messages(response: httpx.Response) -> Answer:
    whole = response.json()
    return whole["content"][0]["text"], whole["smoothguard"]


def _read_messages_stream(response: httpx.Response) -> Answer:
    events = _events(response)
    if events[-1]["type"] != "message_stop":
        raise ValueError("the stream was cut")
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    return text, events[0]["message"]["smoothguard"]


def _langserve(text: str, png: str) -> Body:
    image = {"type": "image", "base64": png, "mime_type": "image/png"}
    return {"input": [{"type": "human", "content": [{"type": "text", "text": text}, image]}]}


def _read_langserve(response: httpx.Response) -> Answer:
    output = response.json()["output"]
    return output["content"], output["response_metadata"]["smoothguard"]


def _events(response: httpx.Response) -> list[Any]:
    """Return the data of server-sent events."""
    lines = response.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


CLIENTS = {
    "chat completions": Client(path="/v1/chat/completions", body=_chat, read=_read_chat),
    "chat completions, stream": Client(
        path="/v1/chat/completions",
        body=lambda text, png: _chat(text, png, stream=True),
        read=_read_chat_stream,
    ),
    "responses": Client(path="/v1/responses", body=_responses, read=lambda response: _read_responses(response.json())),
    "responses, stream": Client(
        path="/v1/responses",
        body=lambda text, png: _responses(text, png, stream=True),
        read=_read_responses_stream,
    ),
    "messages": Client(path="/v1/messages", body=_messages, read=_read_messages),
    "messages, stream": Client(
        path="/v1/messages",
        body=lambda text, png: _messages(text, png, stream=True),
        read=_read_messages_stream,
    ),
    "LangServe": Client(path="/guards/echo/invoke", body=_langserve, read=_read_langserve),
}
"""By the name of the door."""
