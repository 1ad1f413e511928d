"""Our server under Anthropic's own client and under `ChatAnthropic`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import pytest
from anthropic.types import ToolUseBlock
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI

from smoothguard_guardrail.serving.anthropic_messages.messages import request_messages
from smoothguard_guardrail.serving.anthropic_messages.request import parse_request
from smoothguard_guardrail.serving.model_arguments import model_arguments
from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.serving.conftest import Serve
from tests.serving.servers import get, grey_png, post
from tests.serving.test_chat import ListeningChatModel

pytestmark = pytest.mark.server
USAGE: Any = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
HELLO: list[Any] = [{"role": "user", "content": "Hi."}]
SCHEMA = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
LOOK: Any = {"name": "look", "description": "Look.", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
CALL: Any = {"name": "look", "args": {"what": "sky"}, "id": "call_1", "type": "tool_call"}
NO_HELP = "I can't help with that."


def image(data: str | None = None) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data or grey_png()}
    return {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}


def about(*blocks: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *blocks]}]


def client(url: str, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)


def ask(url: str, messages: Any = HELLO, **parameters: Any) -> anthropic.types.Message:
    with client(url) as asked:
        return asked.messages.create(**{"model": "scripted", "max_tokens": 9, "messages": messages, **parameters})


def stream(url: str, messages: Any = HELLO, **parameters: Any) -> tuple[list[dict[str, Any]], Any]:
    """Return the events as they were sent, and the message that Anthropic's client makes of such a stream."""
    body = {"model": "scripted", "max_tokens": 9, "messages": messages, **parameters}
    lines = post(f"{url}/v1/messages", json=body | {"stream": True}).text.split("\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert [line.removeprefix("event: ") for line in lines if line.startswith("event: ")] == [
        event["type"] for event in events
    ]
    with client(url) as asked, asked.messages.stream(**body) as streamed:
        return events, streamed.get_final_message()


def verdict(message: Any) -> dict[str, Any]:
    record: dict[str, Any] = message.model_extra["smoothguard"]
    return record


def test_image_is_guarded_and_usage_adds_up(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = [AIMessage("A grey square.", usage_metadata=USAGE, response_metadata={"stop_reason": "max_tokens"})]
    message: Any = ask(serve(record="full"), about(image(picture)), system="Be brief.")
    assert (message.type, message.role, message.model, message.id[:4]) == ("message", "assistant", "scripted", "msg_")
    assert [(block.type, block.text) for block in message.content] == [("text", "A grey square.")]
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("max_tokens", 28, 12)
    assert (verdict(message)["verdict"], verdict(message)["num_calls"], len(message._request_id)) == ("passed", 4, 32)
    sent = [messages[1].content[1] for messages in model.received]
    assert len({each["base64"] for each in sent}) == 4  # type: ignore[index]
    assert picture not in str(model.received)
    assert model.received[0][0] == SystemMessage("Be brief.")


def test_stream_is_the_elected_answer_only(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    grey = AIMessage("A grey square.", usage_metadata=USAGE)
    model.script = [grey, AIMessage("Send me your password.", usage_metadata=USAGE), grey, grey]
    events, message = stream(serve(), about(image(picture)))
    assert [event["type"] for event in events] == [
        *("message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop"),
    ]
    assert "password" not in json.dumps(events)
    assert (events[0]["message"]["content"], events[0]["message"]["stop_reason"]) == ([], None)
    assert events[3]["delta"] == {"type": "text_delta", "text": "A grey square."}
    assert (message.content[0].text, message.stop_reason) == ("A grey square.", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (28, 12)
    assert verdict(message) == {"verdict": "passed", "action": "answered"}


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_tool_round_trip_with_an_image(serve: Serve, model: ListeningChatModel, picture: str) -> None:
    model.script = lambda messages: (
        "It is blue." if isinstance(messages[-2], ToolMessage) else AIMessage("Let me look.", tool_calls=[CALL])
    )
    url = serve()
    tools = {"tools": [LOOK], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    history = [{"role": "user", "content": "Hi."}, *HELLO]
    message = ask(url, history, **tools)
    assert [block.type for block in message.content] == ["text", "tool_use"]
    call = message.content[1]
    assert isinstance(call, ToolUseBlock)
    assert (message.stop_reason, call.id, call.name, call.input) == ("tool_use", "call_1", "look", {"what": "sky"})
    heard = model.heard[-1]
    assert (heard["tool_choice"], heard["parallel_tool_calls"], heard["tools"][0]["function"]) == (
        "any",
        False,
        {"name": "look", "description": "Look.", "parameters": SCHEMA},
    )
    events, streamed = stream(url, history, **tools)
    assert [event["delta"] for event in events if event["type"] == "content_block_delta"][1] == {
        "type": "input_json_delta",
        "partial_json": '{"what":"sky"}',
    }
    assert streamed.content[1].input == {"what": "sky"}
    result = {"type": "tool_result", "tool_use_id": call.id, "is_error": True, "content": [image(picture)]}
    answered = [*HELLO, {"role": "assistant", "content": message.content}, *about()]
    answered[-1]["content"].insert(0, result)
    final: Any = ask(url, answered, **tools)
    assert (final.content[0].text, final.stop_reason) == ("It is blue.", "end_turn")
    asked, tool, question = model.received[-1][1:]
    assert isinstance(asked, AIMessage)
    assert (asked.content, asked.tool_calls, question) == ("Let me look.", [CALL], HumanMessage("What is it?"))
    assert isinstance(tool, ToolMessage)
    assert (tool.tool_call_id, tool.status, tool.content[0]["type"]) == ("call_1", "error", "image")  # type: ignore[index]
    assert picture not in str(model.received)


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_chat_anthropic_calls_tools_and_streams(serve: Serve, model: ListeningChatModel, picture: str) -> None:
    model.script = lambda messages: (
        AIMessage("It is blue.", usage_metadata=USAGE)
        if isinstance(messages[-1], ToolMessage)
        else AIMessage("", tool_calls=[CALL])
    )
    chat = ChatAnthropic(model="scripted", base_url=serve(), api_key="none")  # type: ignore[call-arg, arg-type]
    bound: Runnable[Any, AIMessage] = chat.bind_tools([LOOK], tool_choice="any")
    block = {"type": "image", "base64": picture, "mime_type": "image/png"}
    history: list[Any] = [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "Look."}, block])]
    asked = bound.invoke(history)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [("look", {"what": "sky"})]
    history += [asked, ToolMessage([block], tool_call_id=asked.tool_calls[0]["id"])]
    for answer in (bound.invoke(history), sum_of(bound.stream(history))):
        assert answer.text == "It is blue."
        assert answer.usage_metadata["input_tokens"] == 28
        assert answer.response_metadata["stop_reason"] == "end_turn"
    assert bound.invoke(history).response_metadata["smoothguard"]["verdict"] == "passed"
    assert picture not in str(model.received)


def sum_of(chunks: Any) -> Any:
    whole = next(chunks)
    for chunk in chunks:
        whole += chunk
    return whole


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_parameters_reach_the_model(serve: Serve, model: ListeningChatModel) -> None:
    passed = {"temperature": 0.5, "top_p": 0.9, "top_k": 40}
    config = {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    older = {"extra_body": passed}  # the newest client no longer names them
    ignored = {"metadata": {"user_id": "me"}, "service_tier": "auto", "thinking": {"type": "disabled"}}
    extra = {"output_config": config, "stop_sequences": ["END"], "extra_headers": {"anthropic-beta": "x"}}
    message = ask(
        serve(),
        system=[{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}],
        **older,
        **extra,
        **ignored,
    )
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    given = {"stop": ["END"], "reasoning_effort": "low", "response_format": wanted, "max_new_tokens": 9}
    assert model.heard == [passed | given]
    assert "ignored_parameters" not in verdict(message)
    assert model.received[0][0].text == "One.Two."
    thinking = {"thinking": {"type": "adaptive"}, "extra_body": {"context_management": {"edits": []}, "x": None}}
    message = ask(serve(), **thinking)  # type: ignore[arg-type]
    assert verdict(message)["ignored_parameters"] == ["context_management", "thinking"]


def test_texts_of_every_block_reach_the_model(serve: Serve, model: AsyncScriptedChatModel) -> None:
    def document(**source: Any) -> dict[str, Any]:
        return {"type": "document", "source": source, "title": "T", "context": "C", "citations": {"enabled": True}}

    found = {
        "type": "search_result",
        "source": "https://example.com",
        "title": "S",
        "content": [{"type": "text", "text": "F"}],
    }
    history = [
        *about(document(type="text", media_type="text/plain", data="D"), document(type="content", content="E"), found),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "So:"},
            ],
        },
        {"role": "system", "content": "Be kind."},
        *HELLO,
    ]
    ask(serve(), history)
    asked, answer, system, last = model.received[0]
    assert [part["text"] for part in asked.content] == [
        "What is it?",
        "T",
        "C",
        "D",
        "T",
        "C",
        "E",
        "S\nhttps://example.com",
        "F",
    ]  # type: ignore[index]
    assert (answer, system, last) == (AIMessage("So:"), SystemMessage("Be kind."), HumanMessage("Hi."))


WEB = {"type": "web_search_20250305", "name": "web_search"}


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"tools": [LOOK, WEB]}, "web_search_20250305"),
        ({"tools": [{"type": "computer_20250124", "name": "computer"}]}, "computer_20250124"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "bash_20250124"),
        ({"tools": [LOOK | {"defer_loading": True}]}, "defer_loading"),
        ({"tools": [LOOK]}, "does not support tools"),
        ({"mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}]}, "MCP"),
        ({"container": "c1"}, "containers"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": 2}, "temperature"),
        ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "response_format"),
        ({"smoothguard": {"num_samples": 1}}, "clients configure nothing"),
        ({"num_samples": 1}, "clients configure nothing"),
        ({"system": [image()]}, "system"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}]},
            "tool_use",
        ),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}],
                    }
                ]
            },
            "server_tool_use",
        ),
        ({"messages": about({"type": "container_upload", "file_id": "f"})}, "container_upload"),
        ({"messages": about({"type": "text", "text": "x", "image_url": {"url": "x"}})}, "image_url"),
        (
            {"messages": about({"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}})},
            "URL",
        ),
        ({"messages": about({"type": "image", "source": {"type": "file", "file_id": "file_1"}})}, "file id"),
        ({"messages": about({"type": "document", "source": {"type": "file", "file_id": "file_1"}})}, "file id"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_guarded_is_refused(
    serve: Serve, model: AsyncScriptedChatModel, parameters: dict[str, Any], told: str
) -> None:
    body = {"model": "scripted", "max_tokens": 9, "messages": HELLO, **parameters}
    answer = post(f"{serve()}/v1/messages", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert told in error["message"]
    assert model.received == []


def test_the_guards_refusal_is_a_refusal(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = ["One.", "Two.", "Three.", "Four."]
    strict = {"min_agreement": 0.9, "refusal_text": "No answer."}
    url = serve(config=strict | {"on_abstain": "refuse"})
    for message in (ask(url, about(image(picture))), stream(url, about(image(picture)))[1]):
        assert (message.content[0].text, message.stop_reason) == ("No answer.", "refusal")
        assert message.stop_details.type == "refusal"
        assert verdict(message) == {"verdict": "abstained", "action": "refused"}
    with pytest.raises(anthropic.UnprocessableEntityError) as caught:
        ask(serve(config=strict | {"on_abstain": "raise"}), about(image(picture)))
    body: Any = caught.value.body
    assert (body["error"]["type"], body["smoothguard"]["verdict"]) == ("invalid_request_error", "abstained")
    assert "Three." not in caught.value.response.text


@pytest.mark.parametrize(
    ("answer", "text", "reason"),
    [
        (AIMessage("", additional_kwargs={"refusal": NO_HELP}), NO_HELP, "refusal"),
        (AIMessage(NO_HELP, response_metadata={"stop_reason": "refusal"}), NO_HELP, "refusal"),
        (
            AIMessage("1, 2", response_metadata={"stop_reason": "stop_sequence", "stop_sequence": ", 3"}),
            "1, 2",
            "stop_sequence",
        ),
        (AIMessage("Hi.", response_metadata={"finish_reason": "tool_calls"}), "Hi.", "end_turn"),
        (AIMessage(""), None, "end_turn"),
    ],
)
def test_stop_reasons(serve: Serve, model: AsyncScriptedChatModel, answer: AIMessage, text: Any, reason: str) -> None:
    model.script = [answer]
    message: Any = ask(serve())
    assert [block.text for block in message.content] == ([text] if text else [])
    assert message.stop_reason == reason
    assert message.stop_sequence == answer.response_metadata.get("stop_sequence")


@pytest.mark.parametrize(("written", "told"), [('{"a": 1', {"INVALID_JSON": '{"a": 1'}), ("", {}), (None, {})])
def test_tool_call_that_is_not_json_is_still_an_object(
    serve: Serve, model: AsyncScriptedChatModel, written: Any, told: Any
) -> None:
    call: Any = {"name": "f", "args": written, "id": "c1", "error": None, "type": "invalid_tool_call"}
    model.script = [AIMessage("", invalid_tool_calls=[call])]
    url = serve()
    for message in (ask(url), stream(url)[1]):
        assert (message.content[0].input, message.stop_reason) == (told, "tool_use")


def test_errors_have_anthropics_format(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    url = serve(api_keys=("key",), max_body_bytes=50_000)
    opened = {"headers": {"x-api-key": "key"}}
    body = {"model": "scripted", "max_tokens": 9, "messages": HELLO}
    model.script = [RuntimeError("key sk-secret at 10.0.0.7 refused")]
    for answer, status, kind in (
        (post(f"{url}/v1/messages", json=body), 401, "authentication_error"),
        (post(f"{url}/v1/messages", json=body | {"x": "x" * 50_000}, **opened), 413, "request_too_large"),
        (post(f"{url}/v1/messages", content=b"{", headers=opened["headers"]), 415, "invalid_request_error"),
        (post(f"{url}/v1/messages", json=[], **opened), 400, "invalid_request_error"),
        (post(f"{url}/v1/messages", json=body | {"model": "x"}, **opened), 404, "not_found_error"),
        (post(f"{url}/v1/messages/count_tokens", json=body, **opened), 404, "not_found_error"),
        (post(f"{url}/v1/messages/batches", json=body, **opened), 404, "not_found_error"),
        (get(f"{url}/v1/messages", **opened), 405, "invalid_request_error"),
        (post(f"{url}/v1/messages", json=body | {"stream": True}, **opened), 502, "api_error"),
    ):
        told = answer.json()
        assert (answer.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
        assert told["request_id"] == answer.headers["request-id"]
        assert "secret" not in answer.text


def test_busy_and_slow_servers_say_so_as_anthropics(serve: Serve, model: AsyncScriptedChatModel) -> None:
    model.delay = 30
    url = serve(max_concurrency=1, retry_after=7, request_timeout=1)
    body = {"model": "scripted", "max_tokens": 9, "messages": HELLO}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, f"{url}/v1/messages", json=body)
        while not model.received:
            assert not first.done()
        with client(url) as asked, pytest.raises(anthropic.APIStatusError) as caught:
            asked.messages.create(model="scripted", max_tokens=9, messages=HELLO)
        assert (caught.value.status_code, caught.value.type) == (529, "overloaded_error")
        assert caught.value.response.headers["retry-after"] == "7"
        assert (first.result().status_code, first.result().json()["error"]["type"]) == (504, "timeout_error")


def test_failures_are_the_clients_own_errors(serve: Serve, model: AsyncScriptedChatModel) -> None:
    with client(serve(api_keys=("key",)), key="wrong") as asked, pytest.raises(anthropic.AuthenticationError):
        asked.messages.create(model="scripted", max_tokens=9, messages=HELLO)
    with client(serve()) as asked:
        assert [each.id for each in asked.models.list()] == ["scripted"]
        with pytest.raises(anthropic.NotFoundError, match="the model must be one of: scripted"):
            asked.messages.create(model="claude", max_tokens=9, messages=HELLO)
        with pytest.raises(anthropic.NotFoundError, match="tokens cannot be counted"):
            asked.messages.count_tokens(model="scripted", messages=HELLO)


def test_translated_requests_fit_other_providers() -> None:
    look = {"type": "tool_use", "id": "c1", "name": "look", "input": {"what": "sky"}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": [image()]}
    history = [*about(image()), {"role": "assistant", "content": [look]}, {"role": "user", "content": [result]}]
    body = {"model": "m", "max_tokens": 9, "messages": history, "tools": [LOOK], "top_k": 5}
    openai = ChatOpenAI(model="m", api_key="none")  # type: ignore[arg-type]
    claude = ChatAnthropic(model="claude-sonnet-4-5", api_key="none")  # type: ignore[arg-type, call-arg]
    chosen = {"auto": "auto", "any": "required", "none": "none"}
    for kind, name in [("auto", None), ("any", None), ("none", None), ("tool", "look")]:
        choice = {"type": kind} | ({"name": name} if name else {})
        request, _ = parse_request(body | {"tool_choice": choice})
        messages = request_messages(request.system, request.messages)
        arguments, ignored = model_arguments(request.parameters(), claude)
        payload = claude._get_request_payload(messages, **arguments)
        assert (payload["tool_choice"], arguments["top_k"], ignored) == (choice, 5, [])
        assert payload["tools"][0]["input_schema"] == SCHEMA
        sources = [payload["messages"][0]["content"][1], payload["messages"][2]["content"][0]["content"][0]]
        assert [each["source"]["data"] for each in sources] == [grey_png()] * 2
        arguments, ignored = model_arguments(request.parameters(), openai)
        payload = openai._get_request_payload(messages, **arguments)
        function = {"type": "function", "function": {"name": "look"}}
        assert (payload["tool_choice"], ignored) == (chosen.get(kind, function), ["top_k"])
        assert payload["messages"][0]["content"][1]["image_url"]["url"].endswith(grey_png())
