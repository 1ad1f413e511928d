"""Our server under OpenAI's own client."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import Field

from smoothguard_guardrail.serving import create_app
from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.scripted_models import StreamingChatModel
from tests.serving.conftest import Serve
from tests.serving.servers import about_picture, post

USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
pytestmark = pytest.mark.server


def client(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def ask(url: str, messages: Any, **parameters: Any) -> Any:
    with client(url) as asked:
        return asked.chat.completions.create(model="scripted", messages=messages, **parameters)


def verdict(completion: Any) -> dict[str, Any]:
    record: dict[str, Any] = completion.model_extra["smoothguard"]
    return record


def test_image_is_guarded_and_usage_adds_up(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = [AIMessage("A grey square.", usage_metadata=USAGE, response_metadata={"finish_reason": "length"})]
    completion = ask(serve(record="full"), about_picture(picture))
    (choice,) = completion.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "A grey square.")
    assert choice.finish_reason == "length"
    assert completion.model == "scripted"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (28, 12, 40)
    record = verdict(completion)
    assert (record["verdict"], record["agreement"], record["num_calls"]) == ("passed", 1.0, 4)
    assert record["media"][0]["action"] == "perturbed"
    assert "seed" not in record
    sent = [messages[0].content[1]["image_url"] for messages in model.received]  # type: ignore[index]
    assert len({each["url"] for each in sent}) == 4
    assert not any(picture in each["url"] for each in sent)
    assert {each["detail"] for each in sent} == {"low"}


def test_audio_is_guarded(serve: Serve, model: AsyncScriptedChatModel, recording: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": recording, "format": "wav"}}
    completion = ask(serve(record="full"), [{"role": "user", "content": [part]}])
    assert verdict(completion)["media"][0]["kind"] == "audio"
    sent = [messages[0].content_blocks[0]["base64"] for messages in model.received]  # type: ignore[typeddict-item]
    assert len(set(sent)) == 4
    assert recording not in sent


def test_a_text_only_request_is_asked_once(serve: Serve, model: AsyncScriptedChatModel) -> None:
    history = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello.", "refusal": None, "annotations": []},
        {"role": "user", "content": [{"type": "text", "text": "Who are you?"}], "name": "someone"},
    ]
    completion = ask(serve(), history)
    assert (verdict(completion)["verdict"], len(model.received)) == ("skipped", 1)
    assert completion.usage is None
    assert [message.type for message in model.received[0]] == ["system", "human", "ai", "human"]


def test_stream_contains_only_the_elected_answer(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = ["A grey square.", "Send me your password.", "A grey square.", "A grey square."]
    url = serve(record="full")
    with client(url) as asked:
        parameters: Any = {"model": "scripted", "messages": about_picture(picture), "stream": True}
        chunks = list(asked.chat.completions.create(**parameters, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "A grey square."
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    records = [(chunk.model_extra or {}).get("smoothguard") for chunk in chunks]
    assert [record["agreement"] for record in records if record] == [0.75]
    body = {"model": "scripted", "messages": about_picture(picture), "stream": True}
    raw = post(f"{url}/v1/chat/completions", json=body)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.text.endswith("data: [DONE]\n\n")
    assert "password" not in raw.text


def test_a_full_record_names_the_settings_and_no_way_to_the_seed(serve: Serve, picture: str) -> None:
    configs = [{}, {"seed": 7}]
    first, second = (verdict(ask(serve(record="full", config=each), about_picture(picture))) for each in configs)
    assert first["settings_hash"] == second["settings_hash"]
    assert first["policy"]["on_abstain"] == "refuse"
    assert not {"seed", "settings"} & second.keys()


async def test_async_client_and_chat_openai_work_too(serve: Serve, picture: str) -> None:
    url = serve()
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as asked:
        messages: Any = about_picture(picture)
        completion = await asked.chat.completions.create(model="scripted", messages=messages)
    assert completion.choices[0].message.content == "A grey square."
    with httpx.Client() as http:
        chat = ChatOpenAI(model="scripted", base_url=f"{url}/v1", api_key="none", http_client=http)  # type: ignore[arg-type]
        assert chat.invoke(about_picture(picture)).content == "A grey square."
        assert "".join(chunk.text for chunk in chat.stream(about_picture(picture))) == "A grey square."


def test_models_are_listed(serve: Serve) -> None:
    with client(serve()) as asked:
        assert [model.id for model in asked.models.list()] == ["scripted"]
        assert asked.models.retrieve("scripted").owned_by == "smoothguard"
        with pytest.raises(openai.NotFoundError, match="the model must be one of: scripted"):
            asked.models.retrieve("gpt-4o")
        with pytest.raises(openai.NotFoundError, match="the model must be one of: scripted"):
            asked.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi."}])


class ListeningChatModel(StreamingChatModel):
    """Remembers the arguments of every call."""

    heard: list[dict[str, Any]] = Field(default_factory=list)
    max_new_tokens: int = 9

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.heard.append({"stop": stop, **kwargs})
        return await super()._agenerate(messages, stop, run_manager)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError
        yield


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_parameters_reach_the_model(serve: Serve, model: ListeningChatModel) -> None:
    ignored = {"seed": 1, "user": "me", "n": 1, "presence_penalty": 0.0, "store": False, "metadata": {"a": "b"}}
    same = {"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.7, "logit_bias": {"5": 1.0}}
    given = {"reasoning_effort": "low", "max_tokens": 5, "stop": "END"}
    ask(serve(), [{"role": "user", "content": "Hi."}], **same, **given, **ignored)
    assert model.heard == [same | {"reasoning_effort": "low", "stop": ["END"], "max_new_tokens": 5}]


@pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)
def test_tools_are_passed_on_and_calls_come_back(serve: Serve, model: ListeningChatModel, picture: str) -> None:
    call = {"name": "look", "args": {"what": "sky"}, "id": "call_1", "type": "tool_call"}
    model.script = [AIMessage("", tool_calls=[call])]  # type: ignore[list-item]
    schema = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
    tools = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": schema}}]
    url = serve()
    (choice,) = ask(url, about_picture(picture), tools=tools, tool_choice="auto").choices
    (told,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (told.id, told.function.name, told.function.arguments) == ("call_1", "look", '{"what": "sky"}')
    assert model.heard[0]["tools"][0]["function"]["name"] == "look"
    with client(url) as asked:
        parameters: Any = {"model": "scripted", "messages": about_picture(picture), "tools": tools}
        chunks = list(asked.chat.completions.create(**parameters, stream=True))
    streamed = [chunk.choices[0].delta.tool_calls for chunk in chunks if chunk.choices[0].delta.tool_calls]
    assert streamed[0][0].function.arguments == '{"what": "sky"}'
    history = [*about_picture(picture), choice.message.model_dump(), _tool_answer("call_1")]
    ask(url, history, tools=tools)
    assert isinstance(model.received[-1][-1], ToolMessage)
    assert model.received[-1][1].tool_calls[0]["name"] == "look"  # type: ignore[attr-defined]


def _tool_answer(call: str) -> dict[str, str]:
    return {"role": "tool", "tool_call_id": call, "content": "It is blue."}


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"temperature": 9}, "temperature"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 9}, "frequency_penalty"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"modalities": ["text", "smell"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"functions": [{"name": "f", "parameters": {}}]}, "functions"),
        ({"extra_body": {"smoothguard": {"num_samples": 1}}}, "smoothguard"),
        ({"extra_body": {"config": {"configurable": {"sigma": 0}}}}, "config"),
        ({"extra_body": {"num_samples": 1}}, "num_samples"),
        ({"extra_body": {"callbacks": ["x"]}}, "callbacks"),
    ],
)
def test_unsupported_parameters_are_rejected(
    serve: Serve, model: AsyncScriptedChatModel, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(serve(), [{"role": "user", "content": "Hi."}], **parameters)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert model.received == []


@pytest.mark.parametrize(
    "message",
    [
        {"role": "remove", "content": "x"},
        {"role": "user", "content": "x", "additional_kwargs": {}},
        {"role": "user", "content": 5},
        {"role": "user", "content": ["x"]},
        {"role": "tool", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
        {"role": "assistant", "tool_calls": "x"},
        {"role": "assistant", "tool_calls": 5},
        {"content": "x"},
        {"role": "user", "content": "x", "audio": {"id": "a"}},
    ],
)
def test_invalid_messages_are_rejected(serve: Serve, model: AsyncScriptedChatModel, message: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError, match=r"messages\[1\]: ") as caught:
        ask(serve(), [{"role": "user", "content": "Hi."}, message])
    assert caught.value.param == "messages"
    assert model.received == []


def test_media_that_cannot_be_guarded_are_rejected_with_their_place(
    serve: Serve, model: AsyncScriptedChatModel, picture: str
) -> None:
    url = serve()
    web = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    film = {"type": "video_url", "video_url": {"url": "data:video/webm;base64,GkXfo0AgQoaBAUL3gQFC8oEEQvOBCEKCQAR3"}}
    for part in (web, film, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "x"}):
        with pytest.raises(openai.BadRequestError, match=r"messages\[0\].content\[0\]") as caught:
            ask(url, [{"role": "user", "content": [part]}])
        assert caught.value.code == "media_error"
    with pytest.raises(openai.BadRequestError, match="allowed") as caught:
        ask(url, [{"role": "user", "content": about_picture(picture)[0]["content"][1:] * 17}])
    assert model.received == []


def test_a_refusal_of_the_guard_is_a_content_filter(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = ["One.", "Two.", "Three.", "Four."]
    strict = {"min_agreement": 0.9, "on_abstain": "refuse", "refusal_text": "No answer."}
    completion = ask(serve(config=strict), about_picture(picture))
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == ("No answer.", "content_filter")
    assert verdict(completion)["verdict"] == "abstained"


def test_a_raised_abstention_is_a_422_with_the_record(
    serve: Serve, model: AsyncScriptedChatModel, picture: str
) -> None:
    model.script = ["One.", "Two.", "Three.", "Four."]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(serve(config={"min_agreement": 0.9, "on_abstain": "raise"}), about_picture(picture))
    assert caught.value.code == "abstained"
    body = caught.value.response.json()
    assert body["smoothguard"]["verdict"] == "abstained"
    assert "Three." not in caught.value.response.text


def test_clients_see_the_verdict_and_the_action_only(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    url = serve()
    assert verdict(ask(url, about_picture(picture))) == {"verdict": "passed", "action": "answered"}
    model.script = ["One.", "Two.", "Three.", "Four."]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(serve(config={"min_agreement": 0.9, "on_abstain": "raise"}), about_picture(picture))
    assert caught.value.response.json()["smoothguard"]["verdict"] == "abstained"
    assert "agreement" not in caught.value.response.text
    assert "0.25" not in caught.value.response.text


def test_chat_openai_has_the_verdict_on_its_message(serve: Serve, picture: str) -> None:
    url = serve()
    with httpx.Client() as http:
        options: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "none", "http_client": http}
        chat = ChatOpenAI(model="scripted", **options)
        messages = [chat.invoke(about_picture(picture)), *chat.stream(about_picture(picture))]
        whole: Any = messages[1]
        for chunk in messages[2:]:
            whole += chunk
        for message in (messages[0], whole):
            assert message.response_metadata["system_fingerprint"] == "smoothguard:passed:answered"
        with_headers = ChatOpenAI(model="scripted", include_response_headers=True, **options)
        for message in (with_headers.invoke("Hi."), next(iter(with_headers.stream("Hi.")))):
            assert message.response_metadata["headers"]["x-smoothguard-verdict"] == "skipped"


def test_failed_and_losing_samples_stay_inside(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    failure = RuntimeError("key sk-secret at 10.0.0.7 refused")
    model.script = ["A grey square.", "The launch code is 0000.", failure, "A grey square."]
    url = serve(config={"record_samples": True}, record="full")
    completion = ask(url, about_picture(picture))
    told = completion.model_dump_json()
    assert verdict(completion)["samples"][2]["error"] == "RuntimeError"
    assert "secret" not in told
    assert "launch" not in told
    model.script = [failure]
    url = serve()
    for messages in (about_picture(picture), [{"role": "user", "content": "Hi."}]):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(url, messages)
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
        for word in ("secret", "10.0.0.7", "RuntimeError", "Traceback"):
            assert word not in caught.value.response.text


def test_two_guards_keep_their_names(model: AsyncScriptedChatModel) -> None:
    with pytest.raises(ValueError, match="must be named"):
        create_app({"../x": None})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="must be a SmoothGuardRunnable"):
        create_app({"x": model})  # type: ignore[dict-item]
