"""What LangChain's provider packages send for guarded messages, recorded by a server on loopback."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from smoothguard_guardrail import GuardComponents, ImageConfig, SmoothGuardChatModel, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.errors import QuorumError
from smoothguard_guardrail.media import resize
from smoothguard_guardrail.media.formats import sniff
from smoothguard_guardrail.testing import WordEmbeddings
from tests.helpers import guarded, pixels
from tests.integration.payloads import MASK, contains_original, media_in, values, without_media
from tests.integration.recording import Recorder, recording_server
from tests.integration.replies import TEXT, TOKENS, scripted_answers
from tests.media import corpus

NUM_SAMPLES = 3
SIGMA = 0.1

PROVIDERS: dict[str, Callable[[str], BaseChatModel]] = {
    "openai": lambda url: ChatOpenAI(model="gpt-none", api_key="none", base_url=f"{url}/v1", max_retries=0),
    "openai-responses": lambda url: ChatOpenAI(
        model="gpt-none", api_key="none", base_url=f"{url}/v1", max_retries=0, use_responses_api=True
    ),
    "anthropic": lambda url: ChatAnthropic(model="claude-none", api_key="none", base_url=url, max_retries=0),
    "google": lambda url: ChatGoogleGenerativeAI(model="gemini-3-none", api_key="none", base_url=url, max_retries=1),
    "ollama": lambda url: ChatOllama(model="llava", base_url=url),
}

EVERYWHERE = {"v1 base64", "v0 base64", "image_url", "image_url with extras", "history"}
EVERYWHERE |= {"data URI in a text", "an agent's conversation"}
SUPPORTED = {
    "openai": {"v1 data URI", "v1 audio", "v0 audio", "image_url as string", "input_audio", "file_data image"}
    | {"anthropic base64", "system", "tool", "answer", "two data URIs in a text"},
    "openai-responses": {"v1 data URI", "input_image", "input_file image", "file_data image", "anthropic base64"}
    | {"system", "tool", "computer call"},
    "anthropic": {"v1 data URI", "anthropic base64", "document of blocks", "tool_result", "input_image", "tool"},
    "google": {"v1 audio", "v0 audio", "input_audio", "google media", "google media base64", "file_data image"}
    | {"image_url as string", "system", "answer"},
    "ollama": {"v1 raw bytes", "image_url as string", "image_url of bare base64", "system", "tool", "answer"},
}
"""The cases of the corpus whose media each package sends as media, besides `EVERYWHERE`."""

_IMAGE: dict[str, Any] = {"type": "image", "base64": corpus.PNG64, "mime_type": "image/png"}
AGENT = corpus.Case(
    name="an agent's conversation",
    messages=[
        SystemMessage("Be brief."),
        HumanMessage("What is on the screen?"),
        AIMessage("", tool_calls=[{"name": "screen", "args": {"display": 1}, "id": "call_1", "type": "tool_call"}]),
        ToolMessage([_IMAGE], tool_call_id="call_1", name="screen"),
    ],
    media=("image",),
)
CASES = {case.name: case for case in (*corpus.CASES, AGENT)}
SUPPORTED_CASES = [(provider, name) for provider, more in SUPPORTED.items() for name in sorted(EVERYWHERE | more)]

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unrecognized system content block 'image' was dropped:UserWarning"),
]


class Shape(BaseModel):
    """A coloured shape."""

    colour: str
    size: int


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with recording_server(scripted_answers([TEXT])) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def models(server: Recorder) -> dict[str, BaseChatModel]:
    return {name: build(server.base_url) for name, build in PROVIDERS.items()}


@pytest.fixture
def wire(server: Recorder) -> list[Any]:
    server.bodies.clear()
    return server.bodies


def guard(model: BaseChatModel) -> Any:
    return guarded(model, num_samples=NUM_SAMPLES, sigma=SIGMA, low_pass=0.0, max_shift=0)


def check_requests(bodies: list[Any], kinds: tuple[str, ...]) -> None:
    """Check that each request has media of these kinds, with noise of the configured strength, and that all differ."""
    media_by_request = [list(media_in(body)) for body in bodies]
    assert [len(media) for media in media_by_request] == [len(kinds)] * NUM_SAMPLES
    every = [medium for media in media_by_request for medium in media]
    assert len(set(every)) == len(every)
    for medium, kind in zip(every, kinds * NUM_SAMPLES, strict=True):
        arrived = values(medium)
        original = resized(corpus.PIXELS / 255, arrived.shape) if kind == "image" else corpus.WAVEFORM
        sigma = SIGMA if kind == "image" else 0.1 * np.sqrt(np.mean(corpus.WAVEFORM**2))  # 20 dB
        assert np.std(arrived - original) == pytest.approx(sigma, rel=0.08)


def resized(picture: Any, shape: tuple[int, ...]) -> Any:
    """Return a picture, (height, width, 3) in [0, 1], at the size at which the guard sends it to this model."""
    image = torch.from_numpy(picture).permute(2, 0, 1)
    return resize(image, (shape[0], shape[1])).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("provider", "name"), SUPPORTED_CASES)
def test_only_the_media_differ_from_an_unguarded_payload(
    models: dict[str, BaseChatModel], wire: list[Any], provider: str, name: str
) -> None:
    case = CASES[name]
    models[provider].invoke(case.messages)
    unguarded = wire.pop()
    assert contains_original(unguarded)
    result = guard(models[provider]).guard(case.messages)
    assert result.answer.text == TEXT
    assert (result.verdict, result.num_calls) == ("passed", NUM_SAMPLES)
    check_requests(wire, case.media)
    assert MASK in str(without_media(unguarded))
    assert [without_media(body) for body in wire] == [without_media(unguarded)] * NUM_SAMPLES


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_dialect_sends_any_original(models: dict[str, BaseChatModel], wire: list[Any], provider: str) -> None:
    answered = 0
    for case in CASES.values():
        if not case.media:
            continue
        wire.clear()
        try:
            guard(models[provider]).invoke(case.messages)
            answered += 1
        except QuorumError:  # this provider's package doesn't know the block
            assert len(wire) < NUM_SAMPLES  # Google's takes bytes for base64, and some happen to decode
        assert not any(map(contains_original, wire)), case.name
    assert answered >= len(EVERYWHERE | SUPPORTED[provider])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_async_calls_send_perturbed_media_too(
    models: dict[str, BaseChatModel], wire: list[Any], provider: str
) -> None:
    result = await guard(models[provider]).aguard(CASES["v1 base64"].messages)
    assert result.answer.text == TEXT
    check_requests(wire, ("image",))
    assert not any(map(contains_original, wire))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_usage_is_summed_over_the_samples(models: dict[str, BaseChatModel], wire: list[Any], provider: str) -> None:
    usage = guard(models[provider]).invoke(CASES["v1 base64"].messages).usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (NUM_SAMPLES * TOKENS[0], NUM_SAMPLES * TOKENS[1])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_declared_type_follows_the_bytes(models: dict[str, BaseChatModel], wire: list[Any], provider: str) -> None:
    block = {"type": "image", "base64": base64.b64encode(corpus.PNG).decode(), "mime_type": "image/gif"}
    guard(models[provider]).invoke([HumanMessage(content=[block, {"type": "text", "text": "What is it?"}])])
    for body in wire:
        (medium,) = media_in(body)
        arrived = values(medium)
        assert np.std(arrived - resized(pixels(corpus.PNG), arrived.shape)) == pytest.approx(SIGMA, rel=0.08)
        sniffed = sniff(medium)
        assert sniffed is not None
        declared = re.findall(r"image/\w+", json.dumps(body))
        assert set(declared) <= {sniffed.mime_type}
        assert declared or provider == "ollama"  # Ollama declares no type


@pytest.mark.parametrize("provider", PROVIDERS)
def test_structured_output_is_voted_on_as_objects(provider: str) -> None:
    texts = ['{"colour": "red", "size": 2}', '{"size": 2, "colour": "red"}', '{"colour": "green", "size": 2}']
    with recording_server(scripted_answers(texts)) as recorder:
        model = PROVIDERS[provider](recorder.base_url)
        config = SmoothGuardConfig(
            num_samples=NUM_SAMPLES,
            early_stop=None,
            vote=VoteConfig(refusal_share=0.6, min_agreement=0.0),
            sigma=SIGMA,
            image=ImageConfig(low_pass=0.0, max_shift=0),
        )
        chat = SmoothGuardChatModel(model, config=config, components=GuardComponents(embedder=WordEmbeddings()))
        found = chat.with_structured_output(Shape, include_raw=True).invoke(CASES["v1 base64"].messages)
        model.with_structured_output(Shape).invoke(CASES["v1 base64"].messages)
    assert isinstance(found, dict)
    assert found["parsed"] == Shape(colour="red", size=2)
    assert found["raw"].response_metadata["smoothguard"]["agreement"] == pytest.approx(2 / 3)
    *guarded_bodies, unguarded = recorder.bodies
    check_requests(guarded_bodies, ("image",))
    assert [without_media(body) for body in guarded_bodies] == [without_media(unguarded)] * NUM_SAMPLES
    assert "colour" in json.dumps(unguarded)  # the schema


@pytest.mark.parametrize(
    ("provider", "block", "extra"),
    [
        ("openai", {"type": "image_url", "image_url": {"url": corpus.PNG_URI, "detail": "low"}}, '"detail": "low"'),
        (
            "openai-responses",
            {"type": "image_url", "image_url": {"url": corpus.PNG_URI, "detail": "low"}},
            '"detail": "low"',
        ),
        (
            "openai-responses",
            {"type": "input_image", "image_url": corpus.PNG_URI, "detail": "high"},
            '"detail": "high"',
        ),
    ],
)
def test_extra_fields_of_a_block_reach_the_provider(
    models: dict[str, BaseChatModel], wire: list[Any], provider: str, block: dict[str, Any], extra: str
) -> None:
    guard(models[provider]).invoke([HumanMessage(content=[block, {"type": "text", "text": "What is it?"}])])
    check_requests(wire, ("image",))
    assert all(extra in json.dumps(body) for body in wire)


@pytest.mark.parametrize(
    ("provider", "block", "extra"),
    [
        (
            "anthropic",
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": corpus.PNG64},
                "cache_control": {"type": "ephemeral"},
            },
            "cache_control",
        ),
        (
            "anthropic",
            {"type": "image", "base64": corpus.PNG64, "mime_type": "image/png", "cache_control": {"type": "ephemeral"}},
            "cache_control",
        ),
        (
            "google",
            {"type": "media", "mime_type": "image/png", "data": corpus.PNG, "media_resolution": "MEDIA_RESOLUTION_LOW"},
            "MEDIA_RESOLUTION_LOW",
        ),
        ("openai", {"type": "image_url", "image_url": {"url": corpus.PNG_URI}, "uuid": "sku-1"}, "sku-1"),
    ],
)
def test_what_names_a_medium_or_shrinks_it_by_an_unknown_rule_does_not(
    models: dict[str, BaseChatModel], wire: list[Any], provider: str, block: dict[str, Any], extra: str
) -> None:
    message = HumanMessage(content=[block, {"type": "text", "text": "What is it?"}])
    models[provider].invoke([message])
    assert extra in json.dumps(wire.pop())
    guard(models[provider]).invoke([message])
    check_requests(wire, ("image",))
    assert not any(extra in json.dumps(body) for body in wire)
