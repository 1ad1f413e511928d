"""Every block of the corpus in every place of a Messages API request: perturbed, or refused, and never let through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.media.corpus import (
    CASES,
    MP4_URI,
    PDF64,
    PNG64,
    PNG_URI,
    WAV64,
    WAV_URI,
    arrives_unperturbed,
    flatten,
    originals,
)
from tests.serving.conftest import Serve
from tests.serving.test_chat import ListeningChatModel

pytestmark = pytest.mark.server


def anthropic_blocks() -> Iterator[Any]:
    """Yield every medium in Anthropic's own shapes, and hidden in its texts."""
    for kind in ("image", "document"):
        for data in (PNG64, WAV64, PDF64):
            yield {"type": kind, "source": {"type": "base64", "media_type": "image/png", "data": data}}
        for url in (PNG_URI, MP4_URI, "http://127.0.0.1/cat.png", "file:///etc/passwd"):
            yield {"type": kind, "source": {"type": "url", "url": url}}
    yield {"type": "document", "source": {"type": "content", "content": PNG_URI}, "title": PNG64, "context": PNG_URI}
    yield {"type": "search_result", "source": PNG_URI, "title": PNG64, "content": [{"type": "text", "text": PNG_URI}]}
    yield {"type": "text", "text": f"{PNG64} and {WAV_URI}"}


def corpus_blocks() -> Iterator[Any]:
    """Yield the blocks of every dialect that fit into JSON."""
    for case in CASES:
        for message in case.messages:
            for block in message.content if isinstance(message.content, list) else [message.content]:
                try:
                    json.dumps(block)
                except TypeError:
                    continue
                yield {"type": "text", "text": block} if isinstance(block, str) else block


def _user(*content: Any) -> list[Any]:
    return [{"role": "user", "content": list(content)}]


def _answer(*content: Any) -> list[Any]:
    return [*_user({"type": "text", "text": "Hi."}), {"role": "assistant", "content": list(content)}]


def _result(content: Any, **extra: Any) -> list[Any]:
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    return [*_answer(call), *_user({"type": "tool_result", "tool_use_id": "c1", "content": content, **extra})]


def _tool(**extra: Any) -> dict[str, Any]:
    return {"name": "f", "input_schema": {"type": "object"}, **extra}


HELLO = {"messages": _user({"type": "text", "text": "Hi."})}
PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "user": lambda block: {"messages": _user({"type": "text", "text": "What is it?"}, block)},
    "assistant": lambda block: {"messages": [*_answer(block), *_user({"type": "text", "text": "So?"})]},
    "system": lambda block: HELLO | {"system": [block]},
    "system message": lambda block: {"messages": [*HELLO["messages"], {"role": "system", "content": [block]}]},
    "tool result": lambda block: {"messages": _result([block])},
    "tool result, not a list": lambda block: {"messages": _result(block)},
    "tool result, extra key": lambda block: {"messages": _result("x", images=[block])},
    "document": lambda block: {
        "messages": _user({"type": "document", "source": {"type": "content", "content": [block]}})
    },
    "document in a tool result": lambda block: {
        "messages": _result([{"type": "document", "source": {"type": "content", "content": [block]}}])
    },
    "tool input": lambda block: {
        "messages": _answer({"type": "tool_use", "id": "c1", "name": "f", "input": {"x": [block]}})
    },
    "ids": lambda block: {
        "messages": [
            *_answer({"type": "tool_use", "id": json.dumps(block), "name": json.dumps(block), "input": {}}),
            *_user({"type": "tool_result", "tool_use_id": json.dumps(block), "content": "x"}),
        ]
    },
    "thinking": lambda block: {"messages": _answer({"type": "thinking", "thinking": block, "signature": block})},
    "cache control": lambda block: {"messages": _user({"type": "text", "text": "Hi.", "cache_control": block})},
    "citations": lambda block: {"messages": _user({"type": "text", "text": "Hi.", "citations": [block]})},
    "key of the message": lambda block: {"messages": [{"role": "user", "content": "Hi.", "images": [block]}]},
    "tool's schema": lambda block: HELLO | {"tools": [_tool(input_schema={"type": "object", "default": block})]},
    "tool's description": lambda block: HELLO | {"tools": [_tool(description=json.dumps(block))]},
    "tool's examples": lambda block: HELLO | {"tools": [_tool(input_examples=[{"x": block}])]},
    "format": lambda block: (
        HELLO | {"output_config": {"format": {"type": "json_schema", "schema": {"title": "x", "default": block}}}}
    ),
    "stop sequence": lambda block: HELLO | {"stop_sequences": [json.dumps(block)]},
    "metadata": lambda block: HELLO | {"metadata": {"x": block}},
    "unknown parameter": lambda block: HELLO | {"images": [block]},
}


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
@pytest.mark.parametrize("place", ["user", "assistant", "tool result"])
def test_no_block_of_any_dialect_is_let_through(serve: Serve, model: ListeningChatModel, place: str) -> None:
    statuses = [_checked_status(client, model, place, block) for client in _clients(serve) for block in corpus_blocks()]
    assert statuses.count(200) > 20


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_no_medium_is_let_through_in_any_place(serve: Serve, model: ListeningChatModel) -> None:
    for client in _clients(serve):
        for place in PLACES:
            for block in anthropic_blocks():
                _checked_status(client, model, place, block)


def _clients(serve: Serve) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve(config={"num_samples": 2}), timeout=60) as client:
        yield client


def _checked_status(client: httpx.Client, model: ListeningChatModel, place: str, block: Any) -> int:
    """Send a block and check that no original reached the model; return the status of the answer."""
    model.received.clear()
    model.heard.clear()
    answer = client.post("/v1/messages", json={"model": "scripted", "max_tokens": 9, **PLACES[place](block)})
    assert answer.status_code in (200, 400), (place, answer.text)
    for messages in model.received:
        assert not arrives_unperturbed(messages), (place, block)
    heard = flatten(model.heard).replace(b"\n", b"")
    assert not any(original.replace(b"\n", b"") in heard for original in originals()), (place, block)
    if answer.status_code == 400:
        assert (model.received, answer.json()["type"]) == ([], "error")
    return answer.status_code
