"""Every shape of the scanner's corpus, in every place of a response's input: no original byte reaches the model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from smoothguard_guardrail import SmoothGuardRunnable
from smoothguard_guardrail.serving import create_app
from tests.helpers import config_of
from tests.integration.payloads import contains_original, media_in
from tests.integration.recording import recording_server
from tests.integration.replies import scripted_answers
from tests.integration.test_provider_dialects import PROVIDERS
from tests.media import corpus
from tests.serving.client_bodies import vercel_responses
from tests.serving.conftest import Serve
from tests.serving.test_chat import ListeningChatModel

pytestmark = pytest.mark.server
Place = Callable[[Any], dict[str, Any]]
LOOK = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}


def _blocks() -> Iterator[tuple[corpus.Case, Any]]:
    """Yield the corpus's blocks that JSON can hold."""
    for case in corpus.CASES:
        content = case.messages[0].content
        block = content[1] if len(case.messages) == 1 and isinstance(content, list) and len(content) == 2 else None
        try:
            json.dumps(block)
        except TypeError:
            continue
        if isinstance(block, dict):
            yield case, block


BLOCKS = list(_blocks())
TEXT = {"type": "input_text", "text": "What is it?"}


def _said(*parts: Any, role: str = "user", **extra: Any) -> dict[str, Any]:
    return {"role": role, "content": list(parts), **extra}


PARTS: dict[str, Place] = {
    "user": lambda block: {"input": [_said(TEXT, block)]},
    "system": lambda block: {"input": [_said(block, role="system"), _said(TEXT)]},
    "developer": lambda block: {"input": [_said(block, role="developer", type="message")]},
    "assistant": lambda block: {"input": [_said(block, role="assistant"), _said(TEXT)]},
    "function output": lambda block: {
        "input": [LOOK, {"type": "function_call_output", "call_id": "c1", "output": [TEXT, block]}]
    },
    "custom tool output": lambda block: {
        "input": [LOOK, {"type": "custom_tool_call_output", "call_id": "c1", "output": [block]}]
    },
    "computer output": lambda block: {
        "input": [LOOK, {"type": "computer_call_output", "call_id": "c1", "output": block}]
    },
}
"""Where parts belong."""
ELSEWHERE: dict[str, Place] = {
    "item": lambda block: {"input": [block]},
    "inside a text": lambda block: {"input": [_said(TEXT | {"annotations": [block]})]},
    "inside a part": lambda block: {"input": [_said({"type": "message", "content": [block]})]},
    "inside an image": lambda block: {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": block}]}]
    },
    "inside a file": lambda block: {
        "input": [{"role": "user", "content": [{"type": "input_file", "file_data": block}]}]
    },
    "inside audio": lambda block: {
        "input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": block}]}]
    },
    "beside the content": lambda block: {"input": [_said(TEXT, extra=block)]},
    "beside an output": lambda block: {
        "input": [LOOK, {"type": "function_call_output", "call_id": "c1", "output": "?", "extra": block}]
    },
    "reasoning": lambda block: {"input": [{"type": "reasoning", "id": "r", "summary": [block]}, _said(TEXT)]},
    "generated image": lambda block: {"input": [{"type": "image_generation_call", "id": "i", "result": block}]},
    "arguments": lambda block: {"input": [LOOK | {"arguments": json.dumps(block)}, _said(TEXT)]},
    "unreadable arguments": lambda block: {"input": [LOOK | {"arguments": json.dumps(block)[:-1]}]},
    "custom tool input": lambda block: {
        "input": [{"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": json.dumps(block)}]
    },
    "computer action": lambda block: {
        "input": [{"type": "computer_call", "call_id": "c1", "action": {"type": "type", "text": block}}]
    },
    "output text": lambda block: {
        "input": [LOOK, {"type": "function_call_output", "call_id": "c1", "output": json.dumps(block)}]
    },
    "input text": lambda block: {"input": f"What is {json.dumps(block)}?"},
    "instructions": lambda block: {"input": "?", "instructions": json.dumps(block)},
    "format": lambda block: {
        "input": "?",
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object", "examples": [block]}}},
    },
    "tool": lambda block: {
        "input": "?",
        "tools": [{"type": "function", "name": "f", "description": json.dumps(block), "parameters": {}}],
    },
    "tool parameters": lambda block: {
        "input": "?",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "examples": [block]}}],
    },
    "metadata": lambda block: {"input": "?", "metadata": {"a": block}},
    "unknown parameter": lambda block: {"input": "?", "picture": block},
    "messages": lambda block: {"input": "?", "messages": [{"role": "user", "content": [block]}]},
}
"""Where an attacker could put them."""


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
@pytest.mark.parametrize("place", [*PARTS, *ELSEWHERE])
def test_no_original_reaches_the_model(serve: Serve, model: ListeningChatModel, place: str) -> None:
    put = (PARTS | ELSEWHERE)[place]
    answered = 0
    with httpx.Client(base_url=serve(config={"num_samples": 2}), timeout=60) as http:
        for case, block in BLOCKS:
            del model.received[:], model.heard[:]
            answer = http.post("/v1/responses", json={"model": "scripted", **put(block)})
            assert answer.status_code in (200, 400), (case.name, answer.text)
            received = [model.received, model.heard]
            assert not any(corpus.arrives_unperturbed(each) for each in received), case.name  # type: ignore[arg-type]
            if answer.status_code == 400:
                assert model.received == [], case.name
            elif place in PARTS:
                answered += bool(case.media)
                assert not case.unsupported, case.name
    if place in PARTS:
        assert answered >= 2  # images and files, guarded


CONVERSATION: list[dict[str, Any]] = [
    _said(TEXT, {"type": "input_image", "image_url": corpus.PNG_URI, "detail": "low"}),
    LOOK,
    {
        "type": "function_call_output",
        "call_id": "c1",
        "output": [TEXT, {"type": "input_image", "image_url": corpus.PNG_URI, "detail": "auto"}],
    },
]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_providers_get_both_images_with_noise(provider: str) -> None:
    with recording_server(scripted_answers(["A cat."])) as recorder:
        guard = SmoothGuardRunnable(PROVIDERS[provider](recorder.base_url), config=config_of(num_samples=2))
        with TestClient(create_app({"m": guard})) as http:
            answer = http.post("/v1/responses", json={"model": "m", "input": CONVERSATION})
        assert answer.status_code == 200, answer.text
        assert answer.json()["output"][0]["content"][0]["text"] == "A cat."
        assert [len(list(media_in(body))) for body in recorder.bodies] == [2, 2]
        assert not any(map(contains_original, recorder.bodies))


JUNK = st.sampled_from(
    [None, 0, 1e30, True, "", "x", corpus.PNG_URI, [], {}, [None], [{}], {"type": "x"}, {"type": []}, "messages[9]: x"]
)


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


BODY = {**vercel_responses(corpus.PNG64), "stream": False}


@pytest.fixture(scope="module")
def scripted() -> tuple[ListeningChatModel, TestClient]:
    model = ListeningChatModel(script=["Grey."])
    guard = SmoothGuardRunnable(model, config=config_of(num_samples=2))
    return model, TestClient(create_app({"scripted": guard}))


@given(changes=st.lists(st.tuples(st.sampled_from(list(_paths(BODY))), JUNK), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_malformed_bodies_are_answered_or_refused(
    scripted: tuple[ListeningChatModel, TestClient], changes: list[tuple[tuple[Any, ...], Any]]
) -> None:
    model, http = scripted
    body = copy.deepcopy(BODY)
    for path, junk in changes:
        with suppress(KeyError, IndexError, TypeError):  # an earlier change removed the place
            node: Any = body
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = copy.deepcopy(junk)
    del model.received[:], model.heard[:]
    assert http.post("/v1/responses", json=body).status_code in (200, 400, 404)
    assert not corpus.arrives_unperturbed([model.received, model.heard])  # type: ignore[list-item]
