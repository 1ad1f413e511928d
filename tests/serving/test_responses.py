"""`POST /v1/responses` under OpenAI's own client and LangChain's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.serving.conftest import Serve
from tests.serving.servers import post
from tests.serving.test_chat import USAGE, ListeningChatModel, client

pytestmark = pytest.mark.server
LOOK = {
    "type": "object",
    "properties": {"what": {"type": "string"}},
    "required": ["what"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "name": "look", "description": "Look.", "parameters": LOOK, "strict": True}
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {"what": "sky"}, "id": "call_1", "type": "tool_call"}])


def about(picture: str) -> list[dict[str, Any]]:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{picture}", "detail": "low"}
    return [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]


def respond(url: str, **parameters: Any) -> Any:
    with client(url) as asked:
        return asked.responses.create(model="scripted", **parameters)


def events(url: str, **parameters: Any) -> list[dict[str, Any]]:
    """The events of a stream as they are sent."""
    raw = post(f"{url}/v1/responses", json={"model": "scripted", "stream": True, **parameters})
    assert raw.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in raw.text.strip().split("\n\n")]
    found = [json.loads(block["data"]) for block in blocks]
    assert [event["type"] for event in found] == [block["event"] for block in blocks]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_image_is_guarded_and_the_response_is_whole(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    details = {"input_token_details": {"cache_read": 2}, "output_token_details": {"reasoning": 1}}
    model.script = [AIMessage("A grey square.", usage_metadata=USAGE | details)]  # type: ignore[list-item, arg-type]
    found = respond(serve(), input=about(picture), instructions="Be brief.", metadata={"a": "b"}, store=True)
    assert (found.output_text, found.status, found.model) == ("A grey square.", "completed", "scripted")
    assert (found.instructions, found.metadata, found.id[:5]) == ("Be brief.", {"a": "b"}, "resp_")
    usage = found.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (28, 12, 40)
    assert (usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens) == (8, 4)
    record = {"verdict": "passed", "action": "answered", "ignored_parameters": ["store"]}
    assert (found.model_extra["smoothguard"], found.model_extra["store"]) == (record, False)
    assert len(model.received) == 4
    for system, human in model.received:
        assert (system.type, system.content) == ("system", "Be brief.")
        text, image = human.content
        assert text == {"type": "text", "text": "What is it?"}
        assert (image["type"], image["image_url"]["detail"]) == ("image_url", "low")  # type: ignore[index]
        assert picture not in image["image_url"]["url"]  # type: ignore[index]


def test_items_become_one_conversation(serve: Serve, model: AsyncScriptedChatModel) -> None:
    said = {"type": "output_text", "text": "I look.", "annotations": []}
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}], "status": "completed"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [said]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"what": "sky"}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "run", "input": "print(1)"},
        {"type": "computer_call", "call_id": "c3", "action": {"type": "wait"}, "pending_safety_checks": []},
        {"type": "function_call_output", "call_id": "c1", "output": "blue"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "1"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "Why?"},
    ]
    assert respond(serve(), input=items).output_text == "A grey square."
    (received,) = model.received
    assert [(message.type, message.content) for message in received] == [
        ("system", "Be brief."),
        ("human", "Hi."),
        ("ai", "I look."),
        ("tool", "blue"),
        ("tool", "1"),
        ("ai", "No."),
        ("human", "Why?"),
    ]
    assert [(call["id"], call["name"], call["args"]) for call in received[2].tool_calls] == [  # type: ignore[attr-defined]
        ("c1", "look", {"what": "sky"}),
        ("c2", "run", {"input": "print(1)"}),
        ("c3", "computer", {"action": {"type": "wait"}}),
    ]
    assert [message.tool_call_id for message in received if isinstance(message, ToolMessage)] == ["c1", "c2"]


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_parameters_reach_the_model(serve: Serve, model: ListeningChatModel) -> None:
    schema = {"type": "json_schema", "name": "sight", "schema": LOOK, "strict": True}
    same = {"temperature": 0.5, "top_p": 0.9}
    found = respond(
        serve(),
        input="Hi.",
        max_output_tokens=5,
        reasoning={"effort": "low"},
        text={"format": schema, "verbosity": "low"},
        tools=[TOOL],
        tool_choice={"type": "function", "name": "look"},
        parallel_tool_calls=False,
        include=["reasoning.encrypted_content"],
        truncation="disabled",
        **same,
    )
    function = {key: value for key, value in TOOL.items() if key != "type"}
    (heard,) = model.heard
    assert heard.pop("tools") == [{"type": "function", "function": function}]
    assert heard == same | {
        "stop": None,
        "max_new_tokens": 5,
        "reasoning_effort": "low",
        "verbosity": "low",
        "tool_choice": "look",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "sight", "schema": LOOK, "strict": True}},
    }
    assert (found.tools[0].name, found.tool_choice.name, found.text.format.name) == ("look", "look", "sight")
    assert found.model_extra["smoothguard"]["ignored_parameters"] == ["include", "truncation"]


class Sight(BaseModel):
    what: str


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_pydantic_model_is_parsed(serve: Serve, model: ListeningChatModel, picture: str) -> None:
    model.script[:] = ['{"what": "sky"}']
    with client(serve()) as asked:
        found = asked.responses.parse(model="scripted", input=about(picture), text_format=Sight)  # type: ignore[arg-type]
    assert found.output_parsed == Sight(what="sky")
    assert model.heard[0]["response_format"]["json_schema"]["name"] == "Sight"


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_function_calls_come_back_and_their_images_are_guarded(
    serve: Serve, model: ListeningChatModel, picture: str
) -> None:
    model.script[:] = [CALL]
    url = serve()
    found = respond(url, input="What colour is the sky?", tools=[TOOL])
    (call,) = found.output
    assert (call.type, call.call_id, call.name, call.arguments) == (
        "function_call",
        "call_1",
        "look",
        '{"what": "sky"}',
    )
    model.script[:] = ["Grey."]
    seen = [{"type": "input_image", "image_url": f"data:image/png;base64,{picture}", "detail": "auto"}]
    history = ["What colour is the sky?", call, {"type": "function_call_output", "call_id": "call_1", "output": seen}]
    history[0] = {"role": "user", "content": history[0]}
    answer = respond(url, input=history, tools=[TOOL])
    assert (answer.output_text, answer.model_extra["smoothguard"]["verdict"]) == ("Grey.", "passed")
    asked = model.received[-4:]
    assert {messages[1].tool_calls[0]["id"] for messages in asked} == {"call_1"}  # type: ignore[attr-defined]
    assert all(messages[2].content[0]["type"] == "image_url" for messages in asked)  # type: ignore[index]
    assert picture not in str(asked)


def test_stream_has_openais_events_and_only_the_elected_answer(
    serve: Serve, model: AsyncScriptedChatModel, picture: str
) -> None:
    model.script = ["A grey square.", "Send me your password.", "A grey square.", "A grey square."]
    url = serve(record="full")
    found = events(url, input=about(picture))
    assert "password" not in json.dumps(found)
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    with client(url) as asked, asked.responses.stream(model="scripted", input=about(picture)) as stream:  # type: ignore[arg-type]
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        whole = stream.get_final_response()
    assert text == whole.output_text == "A grey square."


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_stream_of_function_calls_and_of_refusals(serve: Serve, model: ListeningChatModel) -> None:
    model.script[:] = [CALL]
    url = serve()
    kinds = [event["type"].removeprefix("response.") for event in events(url, input="Hi.")]
    assert kinds[3:5] == ["function_call_arguments.delta", "function_call_arguments.done"]
    with client(url) as asked, asked.responses.stream(model="scripted", input="Hi.", tools=[TOOL]) as stream:  # type: ignore[list-item]
        call = stream.get_final_response().output[0]
    assert (call.type, call.arguments) == ("function_call", '{"what": "sky"}')  # type: ignore[union-attr]
    model.script[:] = [AIMessage("", additional_kwargs={"refusal": "No."})]
    found = {event["type"]: event for event in events(url, input="Hi.")}
    assert (found["response.refusal.delta"]["delta"], found["response.refusal.done"]["refusal"]) == ("No.", "No.")
    assert found["response.completed"]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_cut_off_answer_is_incomplete(serve: Serve, model: AsyncScriptedChatModel) -> None:
    for given, reason in (("length", "max_output_tokens"), ("content_filter", "content_filter")):
        model.script = [AIMessage("A grey", response_metadata={"finish_reason": given})]
        url = serve()
        found = respond(url, input="Hi.")
        assert (found.status, found.incomplete_details.reason, found.output_text) == ("incomplete", reason, "A grey")
        assert found.output[0].status == "incomplete"
        assert events(url, input="Hi.")[-1]["type"] == "response.incomplete"


def test_refusal_of_the_guard_is_a_refusal(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = ["One.", "Two.", "Three.", "Four."]
    strict = {"min_agreement": 0.9, "on_abstain": "refuse", "refusal_text": "No answer."}
    found = respond(serve(config=strict), input=about(picture))
    assert found.output[0].content[0].refusal == "No answer."
    assert found.model_extra["smoothguard"] == {"verdict": "abstained", "action": "refused"}
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        respond(serve(config=strict | {"on_abstain": "raise"}), input=about(picture))
    assert caught.value.code == "abstained"
    assert "Three." not in caught.value.response.text


@pytest.mark.parametrize(
    ("parameters", "param", "why"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole input"),
        ({"conversation": "conv_1"}, "conversation", "send the whole input"),
        ({"background": True}, "background", "send the whole input"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "send the whole input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input", r"input\[0\].* send the whole input"),
        ({"input": [{"id": "msg_1"}]}, "input", "send the whole input"),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, "input", "send the whole input"),
        *(({"tools": [{"type": kind}]}, "tools", kind) for kind in ("web_search", "mcp", "image_generation", "custom")),
        ({"tools": [TOOL], "tool_choice": {"type": "file_search"}}, "tool_choice", "one function"),
        ({"tools": [TOOL]}, "tools", "does not support tools"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format", "does not support text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format", "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens", "max_output_tokens"),
        ({"temperature": 9}, "temperature", "temperature"),
        ({"top_logprobs": 3}, "top_logprobs", "one sample"),
        ({"instructions": ["x"]}, "instructions", "text"),
        ({"extra_body": {"messages": []}}, "messages", "chat completions"),
        ({"extra_body": {"modalities": ["text", "audio"]}}, "modalities", "chat completions"),
        ({"extra_body": {"smoothguard": {"num_samples": 1}}}, "smoothguard", "clients configure nothing"),
        ({"input": []}, "input", "list of items"),
        ({"input": ["x"]}, "input", "object"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input", "role"),
        ({"input": [{"role": "user", "content": [{"type": "hologram"}]}]}, "input", r"input\[0\]: parts of type h"),
        ({"input": [{"role": "user", "content": "x", "files": [{"a": 1}]}]}, "input", "files"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": 5, "arguments": ""}]}, "input", r"input\[0\]"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input", "call_id"),
        ({"input": [{"type": "mcp_call", "output": "x"}]}, "input", "mcp_call"),
        ({"input": [{"type": "reasoning", "summary": [{"type": "input_image"}]}]}, "input", "reasoning"),
    ],
)  # fmt: skip
def test_what_cannot_be_guarded_or_resolved_is_refused(
    serve: Serve, model: AsyncScriptedChatModel, parameters: dict[str, Any], param: str, why: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=why) as caught:
        respond(serve(), **({"input": "Hi."} | parameters))
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert model.received == []


def test_state_that_is_not_asked_for_is_no_error(serve: Serve) -> None:
    nothing: dict[str, Any] = {"previous_response_id": None, "background": False, "store": False, "tools": []}
    assert respond(serve(), input="Hi.", **nothing).model_extra["smoothguard"].get("ignored_parameters") is None


def test_errors_name_the_place_in_the_input(serve: Serve, model: AsyncScriptedChatModel) -> None:
    part = {"type": "input_image", "image_url": "https://example.org/cat.png", "detail": "auto"}
    items = [{"role": "user", "content": "Hi."}, {"role": "user", "content": [part]}]
    with pytest.raises(openai.BadRequestError, match=r"input\[1\]\.content\[0\]") as caught:
        respond(serve(), input=items, instructions="Be brief.")
    assert caught.value.code == "media_error"
    with pytest.raises(openai.NotFoundError, match="the model must be one of: scripted"), client(serve()) as asked:
        asked.responses.create(model="gpt-4o", input="Hi.")
    model.script = [RuntimeError("key sk-secret refused")]
    with pytest.raises(openai.InternalServerError) as failed:
        respond(serve(), input="Hi.")
    assert (failed.value.status_code, "secret" in failed.value.response.text) == (502, False)


@pytest.fixture
def chat(serve: Serve, model: AsyncScriptedChatModel) -> Iterator[ChatOpenAI]:
    with httpx.Client() as http:
        yield ChatOpenAI(
            model="scripted", base_url=f"{serve()}/v1", api_key="none", http_client=http, use_responses_api=True
        )  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_chat_openai_over_responses(chat: ChatOpenAI, model: ListeningChatModel, picture: str) -> None:
    image = {"type": "image", "base64": picture, "mime_type": "image/png"}
    asked: list[Any] = [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "What is it?"}, image])]  # type: ignore[list-item]
    assert chat.invoke(asked).text == "A grey square."
    streamed = list(chat.stream(asked))
    assert "".join(chunk.text for chunk in streamed) == "A grey square."
    model.script[:] = [CALL]
    found = chat.bind_tools([TOOL]).invoke(asked)
    assert [(call["id"], call["args"]) for call in found.tool_calls] == [("call_1", {"what": "sky"})]
    model.script[:] = ["Grey."]
    history = [*asked, found, ToolMessage([image], tool_call_id="call_1")]  # type: ignore[list-item]
    final = chat.bind_tools([TOOL]).invoke(history)
    assert final.text == "Grey."
    assert [message.type for message in model.received[-1]] == ["system", "human", "ai", "tool"]
    assert picture not in str(model.received)
    model.script[:] = ['{"what": "sky"}']
    assert chat.with_structured_output(Sight).invoke(asked) == Sight(what="sky")


async def test_async_client(serve: Serve, picture: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{serve()}/v1", api_key="none") as asked:
        found = await asked.responses.create(model="scripted", input=about(picture))  # type: ignore[arg-type]
    assert found.output_text == "A grey square."
