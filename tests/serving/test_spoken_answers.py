"""Audio as the answer: voted on by its transcript, and only the elected answer's is sent."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from smoothguard_guardrail import SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, create_app
from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.model_arguments import model_arguments
from smoothguard_guardrail.serving.openai_chat.request import parse_request
from tests.helpers import config_of
from tests.integration.recording import Recorder, recording_server
from tests.integration.replies import REPLIES
from tests.serving.servers import about_picture, post, running, url_of

pytestmark = pytest.mark.server
SPEECH: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
CAT, CODE = "A cat.", "The launch code is 0000."


def spoken(transcript: str, number: int) -> dict[str, Any]:
    """A reply whose audio names the sample, so that a leak can be seen."""
    data = base64.b64encode(f"{transcript} {number}".encode()).decode()
    audio = {"id": f"audio_{number}", "data": data, "transcript": transcript, "expires_at": 9_999_999_999}
    message = {"role": "assistant", "content": None, "refusal": None, "audio": audio}
    return REPLIES["/chat/completions"] | {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}


def said(data: str) -> str:
    """What `spoken` put into audio."""
    return base64.b64decode(data).decode()


@pytest.fixture
def transcripts() -> list[str]:
    return [CAT, CODE, CAT, CAT]


@pytest.fixture
def provider(transcripts: list[str]) -> Iterator[Recorder]:
    numbers = itertools.count()

    def answer(path: str, body: bytes) -> bytes:
        number = next(numbers)
        return json.dumps(spoken(transcripts[number % len(transcripts)], number)).encode()

    with recording_server(answer) as recorder:
        yield recorder


@pytest.fixture
def url(provider: Recorder) -> Iterator[str]:
    with httpx.Client() as http:
        model = ChatOpenAI(model="gpt", base_url=provider.base_url, api_key="none", http_client=http)  # type: ignore[arg-type]
        strict = {"record_samples": True, "min_agreement": 0.6, "on_abstain": "refuse"}
        guard = SmoothGuardRunnable(model, config=config_of(num_samples=4, early_stop=None, **strict))
        app = create_app({"scripted": guard}, settings=ServerSettings(record="full"))
        with running(app) as server:
            yield url_of(server)


def test_elected_audio_comes_back_and_no_other(url: str, provider: Recorder, picture: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as asked:
        messages: Any = about_picture(picture)
        completion = asked.chat.completions.create(model="scripted", messages=messages, **SPEECH)
    message = completion.choices[0].message
    assert message.audio is not None
    assert (message.content, message.audio.transcript, message.audio.expires_at) == (None, CAT, 9_999_999_999)
    assert said(message.audio.data).startswith(CAT)
    assert message.audio.id.removeprefix("audio_") == said(message.audio.data).rpartition(" ")[2]
    record: Any = (completion.model_extra or {})["smoothguard"]
    assert (record["verdict"], record["agreement"], len(record["samples"])) == ("passed", 0.75, 4)
    assert [{name: body[name] for name in SPEECH} for body in provider.bodies] == [SPEECH] * 4
    assert picture not in json.dumps(provider.bodies)
    _check_no_other(completion.model_dump_json(), provider, message.audio.data)


def test_stream_sends_audio_after_the_vote(url: str, provider: Recorder, picture: str) -> None:
    body = {"model": "scripted", "messages": about_picture(picture), "stream": True, **SPEECH}
    raw = post(f"{url}/v1/chat/completions", json=body).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in raw.split("\n") if line.startswith("data: {")]
    parts = [choice["delta"]["audio"] for chunk in chunks for choice in chunk["choices"] if "audio" in choice["delta"]]
    whole: dict[str, Any] = {}
    for part in parts:
        whole |= part
    assert (whole["transcript"], said(whole["data"])[:6], whole["expires_at"]) == (CAT, CAT, 9_999_999_999)
    assert len({part["id"] for part in parts}) == 1
    _check_no_other(raw, provider, whole["data"])


def _check_no_other(sent: str, provider: Recorder, elected: str) -> None:
    heard = [reply["choices"][0]["message"]["audio"]["data"] for reply in provider.replies]
    assert len(heard) == 4
    assert [data for data in heard if data in sent] == [elected]
    assert CODE not in sent


def test_chat_openai_gets_the_audio(url: str, picture: str) -> None:
    with httpx.Client() as http:
        chat = ChatOpenAI(model="scripted", base_url=f"{url}/v1", api_key="none", http_client=http, model_kwargs=SPEECH)  # type: ignore[arg-type]
        audio = chat.invoke(about_picture(picture)).additional_kwargs["audio"]
    assert (audio["transcript"], said(audio["data"])[:6]) == (CAT, CAT)


@pytest.mark.parametrize("transcripts", [["One.", "Two.", "Three.", "Four."]])
def test_refusal_of_the_guard_has_no_audio(url: str, provider: Recorder, picture: str) -> None:
    answer = post(
        f"{url}/v1/chat/completions", json={"model": "scripted", "messages": about_picture(picture), **SPEECH}
    )
    (choice,) = answer.json()["choices"]
    assert (choice["finish_reason"], "audio" in choice["message"]) == ("content_filter", False)
    for reply in provider.replies:
        assert reply["choices"][0]["message"]["audio"]["data"] not in answer.text


def test_only_models_that_speak_are_asked_to() -> None:
    request, _ = parse_request({"model": "m", "messages": [{"role": "user", "content": "Hi."}], **SPEECH})
    assert model_arguments(request, ChatOpenAI(model="gpt-audio", api_key="none"))[0] == SPEECH  # type: ignore[arg-type]
    silent: list[Any] = [
        ChatOpenAI(model="gpt-4o", api_key="none"),  # type: ignore[arg-type]
        ChatAnthropic(model="claude-sonnet-4-5", api_key="none"),  # type: ignore[arg-type, call-arg]
    ]
    for model in silent:
        with pytest.raises(ApiError, match="does not support modalities"):
            model_arguments(request, model)
