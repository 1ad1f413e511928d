"""What the clients of OpenAI-compatible servers send, and what models answer that OpenAI's do not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.model_arguments import model_arguments
from smoothguard_guardrail.serving.openai_chat.messages import request_messages
from smoothguard_guardrail.serving.openai_chat.request import parse_request
from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.serving.conftest import Serve
from tests.serving.servers import about_picture, post
from tests.serving.test_chat import ListeningChatModel

pytestmark = pytest.mark.server
HELLO = [{"role": "user", "content": "Hi."}]
NO_HELP = "I can't help with that."


def complete(url: str, messages: Any = HELLO, **parameters: Any) -> dict[str, Any]:
    answer = post(f"{url}/v1/chat/completions", json={"model": "scripted", "messages": messages} | parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(url: str, messages: Any = HELLO, **parameters: Any) -> list[dict[str, Any]]:
    """The deltas of a stream."""
    body = {"model": "scripted", "messages": messages, "stream": True} | parameters
    lines = post(f"{url}/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage("", additional_kwargs={"refusal": NO_HELP}),
        AIMessage([{"type": "refusal", "refusal": NO_HELP}]),
        AIMessage([{"type": "text", "text": ""}, {"type": "refusal", "refusal": NO_HELP}]),
        AIMessage([{"type": "non_standard", "value": {"type": "refusal", "refusal": NO_HELP}}]),
    ],
    ids=["field", "block", "block after text", "non-standard block"],
)
def test_refusal_of_the_provider_reaches_the_client(
    serve: Serve, model: AsyncScriptedChatModel, picture: str, answer: AIMessage
) -> None:
    model.script = [answer]
    url = serve()
    (choice,) = complete(url, about_picture(picture))["choices"]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": NO_HELP}
    assert choice["finish_reason"] == "stop"
    assert stream(url, about_picture(picture))[0]["refusal"] == NO_HELP


@pytest.mark.parametrize("written", ['{"a": 1', "", "none", '["a"]'])
def test_tool_call_that_is_not_json_reaches_the_client_as_written(
    serve: Serve, model: AsyncScriptedChatModel, written: str
) -> None:
    call: Any = {"name": "f", "args": written, "id": "c1", "error": None, "type": "invalid_tool_call"}
    model.script = [AIMessage("", invalid_tool_calls=[call], response_metadata={"finish_reason": "tool_calls"})]
    url = serve()
    (choice,) = complete(url)["choices"]
    told = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": written}}
    assert (choice["message"]["tool_calls"], choice["finish_reason"]) == ([told], "tool_calls")
    assert [delta["tool_calls"] for delta in stream(url) if "tool_calls" in delta] == [[{"index": 0, **told}]]


def test_function_call_of_an_older_model_is_a_tool_call(serve: Serve, model: AsyncScriptedChatModel) -> None:
    model.script = [AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": '{"a": 1}'}})]
    (choice,) = complete(serve())["choices"]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert choice["finish_reason"] == "tool_calls"


def test_finish_reason_tells_of_tool_calls_only_with_some(serve: Serve, model: AsyncScriptedChatModel) -> None:
    model.script = [AIMessage("Hi.", response_metadata={"finish_reason": "tool_calls"})]
    assert complete(serve())["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("route", ["chat", "invoke", "batch"])
def test_lone_surrogates_are_replaced(serve: Serve, model: AsyncScriptedChatModel, route: str) -> None:
    lone = "A \ud83d cat \ude00."
    call = {"name": "f", "args": {lone: [lone, float("nan")]}, "id": "c1", "type": "tool_call"}
    url = serve()
    for answer in (
        AIMessage(lone),
        AIMessage("", additional_kwargs={"refusal": lone}),
        AIMessage("", tool_calls=[call]),
    ):  # type: ignore[list-item]
        model.script = [answer]
        body = {
            "chat": {"model": "scripted", "messages": [{"role": "user", "content": lone}], lone: lone},
            "invoke": {"input": lone},
            "batch": {"inputs": [lone]},
        }[route]
        path = "/v1/chat/completions" if route == "chat" else f"/guards/scripted/{route}"
        told = post(f"{url}{path}", content=json.dumps(body), headers={"content-type": "application/json"})
        assert told.status_code == 200
        assert "A \ufffd cat \ufffd." in told.text
        assert model.received[-1][0].text == "A \ufffd cat \ufffd."


NOT_GIVEN = [
    *("logit_bias", "top_logprobs", "functions", "function_call", "audio", "prediction", "reasoning_effort"),
    *("web_search_options", "verbosity", "response_format", "modalities", "n", "stop", "tools", "tool_choice"),
    *("frequency_penalty", "stream", "stream_options", "max_tokens", "temperature", "something_new"),
]


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_null_and_empty_parameters_are_not_given(serve: Serve, model: ListeningChatModel) -> None:
    url = serve()
    for empty in (None, {}, [], ""):
        told = complete(url, **dict.fromkeys(NOT_GIVEN, empty))
        assert "ignored_parameters" not in told["smoothguard"]
    assert model.heard == [{"stop": None}] * 4


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_unknown_parameters_are_ignored_and_noted(serve: Serve, model: ListeningChatModel) -> None:
    webui = {"chat_id": "1", "session_id": "2", "features": {"web_search": False}, "num_ctx": 4096}
    url = serve()
    assert complete(url, **webui)["smoothguard"]["ignored_parameters"] == sorted(webui)
    assert model.heard == [{"stop": None}]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("", {}),
        (None, {}),
        ("null", {}),
        ("{}", {}),
        ('{"a":"x\ny"}', {"a": "x\ny"}),
        ({"a": 1}, {"a": 1}),
        ('{"a": 1', None),
        ("[1]", None),
        ('{"a": NaN}', None),
        ("[" * 100_000, None),
    ],
)
def test_tool_arguments_in_the_history(serve: Serve, model: AsyncScriptedChatModel, arguments: Any, read: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "error: bad arguments"},
    ]
    complete(serve(), history)
    asked = model.received[-1][1]
    assert isinstance(asked, AIMessage)
    if read is None:
        assert [(each["id"], each["args"]) for each in asked.invalid_tool_calls] == [("c1", arguments)]
    else:
        assert [(each["id"], each["args"]) for each in asked.tool_calls] == [("c1", read)]


def test_what_clients_add_to_the_history_is_dropped() -> None:
    extra = {
        "reasoning_content": "Hm.",
        "reasoning_details": [{"text": "Hm."}],
        "id": "m1",
        "images": [],
        "audio": None,
    }
    found = request_messages([*HELLO, {"role": "assistant", "content": "Hello.", "images": []} | extra])
    assert found[1] == AIMessage("Hello.")
    (refused,) = request_messages([{"role": "assistant", "content": None, "refusal": NO_HELP}])
    assert refused.content == NO_HELP
    for media in ({"images": [{"image_url": {"url": "x"}}]}, {"attachments": {"a": 1}}):
        with pytest.raises(ApiError, match="not supported"):
            request_messages([{"role": "user", "content": "Hi."} | media])


SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_response_format_reaches_a_model_that_takes_it(serve: Serve, model: ListeningChatModel) -> None:
    url = serve()
    for wanted in ({"type": "json_object"}, JSON_SCHEMA):
        complete(url, response_format=wanted)
        assert model.heard[-1]["response_format"] == wanted
    complete(url, response_format={"type": "text"})
    assert "response_format" not in model.heard[-1]


def _arguments(model: Any, **parameters: Any) -> tuple[dict[str, Any], list[str]]:
    request, _ = parse_request({"model": "m", "messages": HELLO} | parameters)
    return model_arguments(request, model)


def test_parameters_fit_the_provider() -> None:
    openai = ChatOpenAI(model="m", api_key="none")  # type: ignore[arg-type]
    anthropic = ChatAnthropic(model="claude-sonnet-4-5", api_key="none")  # type: ignore[arg-type, call-arg]
    ollama = ChatOllama(model="m")
    assert _arguments(openai, response_format=JSON_SCHEMA)[0] == {"response_format": JSON_SCHEMA}
    assert SCHEMA["properties"] == _arguments(ollama, response_format=JSON_SCHEMA)[0]["format"]["properties"]
    assert _arguments(ollama, response_format={"type": "json_object"})[0]["format"] == "json"
    assert "animal" not in _arguments(anthropic, response_format=JSON_SCHEMA)[0].get("tools", ())
    with pytest.raises(ApiError, match="does not support response_format"):
        _arguments(anthropic, response_format={"type": "json_object"})
    assert _arguments(openai, frequency_penalty=0.5) == ({"frequency_penalty": 0.5}, [])
    assert _arguments(anthropic, frequency_penalty=0.5) == ({}, ["frequency_penalty"])
