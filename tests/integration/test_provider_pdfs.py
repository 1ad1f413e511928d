"""What LangChain's provider packages send for guarded PDFs, recorded by a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pypdfium2
import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from smoothguard_guardrail import SmoothGuardRunnable
from smoothguard_guardrail.media.formats import sniff
from tests.helpers import guarded, pixels
from tests.integration.payloads import contains_original, media_in
from tests.integration.recording import Recorder, recording_server
from tests.integration.replies import TEXT, scripted_answers
from tests.integration.test_provider_dialects import PROVIDERS
from tests.media import corpus

pytestmark = pytest.mark.server
NUM_SAMPLES = 2
BLOCKS: dict[str, Any] = {
    "v1": {"type": "file", "base64": corpus.PDF64, "mime_type": "application/pdf", "filename": "a.pdf"},
    "v0": {
        "type": "file",
        "source_type": "base64",
        "data": corpus.PDF64,
        "mime_type": "application/pdf",
        "filename": "a.pdf",
    },
    "openai": {"type": "file", "file": {"filename": "a.pdf", "file_data": corpus.PDF_URI}},
    "responses": {"type": "input_file", "filename": "a.pdf", "file_data": corpus.PDF_URI},
    "anthropic": {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": corpus.PDF64},
        "title": "A title",
        "context": "Some context",
        "citations": {"enabled": True},
    },
    "google": {"type": "media", "mime_type": "application/pdf", "data": corpus.PDF},
}
PDF_DIALECTS = [
    *((provider, name) for provider in ("openai", "openai-responses", "anthropic", "google") for name in ("v1", "v0")),
    *(("openai", "openai"), ("openai-responses", "openai"), ("openai-responses", "responses")),
    *(("anthropic", "anthropic"), ("google", "openai"), ("google", "google")),
]
"""What each package sends as a PDF; langchain-ollama sends none."""


@pytest.fixture(scope="module")
def server() -> Iterator[Recorder]:
    with recording_server(scripted_answers([TEXT])) as recorder:
        yield recorder


def asked(block: Any) -> list[BaseMessage]:
    return [HumanMessage([{"type": "text", "text": "Sum it up."}, block])]


def called(block: Any) -> list[BaseMessage]:
    """Return a conversation in which a tool returned the block."""
    call = {"name": "read", "args": {}, "id": "call_1", "type": "tool_call"}
    return [HumanMessage("Sum it up."), AIMessage("", tool_calls=[call]), ToolMessage([block], tool_call_id="call_1")]


def send(server: Recorder, provider: str, messages: list[BaseMessage], **pdf: Any) -> list[Any]:
    """Guard a request, and return the bodies that the provider would get."""
    server.clear()
    model = PROVIDERS[provider](server.base_url)
    host: SmoothGuardRunnable = guarded(model, num_samples=NUM_SAMPLES, early_stop=None, media={"pdf": pdf})
    result = host.guard(messages)
    assert (result.answer.text, result.num_calls) == (TEXT, NUM_SAMPLES)
    assert [medium.path[-9:] for medium in result.media] == [".pages[0]", ".pages[1]"]
    assert not any(map(contains_original, server.bodies))
    media = [medium for body in server.bodies for medium in media_in(body)]
    assert len(set(media)) == len(media)
    return server.bodies


@pytest.mark.parametrize("conversation", [asked, called])
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_package_sends_the_pages_of_every_dialect_as_images(
    server: Recorder, provider: str, name: str, conversation: Any
) -> None:
    for body in send(server, provider, conversation(BLOCKS[name])):
        first, second = map(pixels, media_in(body))
        assert first.shape == second.shape == ((336, 450, 3) if provider == "ollama" else (50, 67, 3))
        assert abs(np.mean(first) - np.mean(corpus.PIXELS) / 255) < 0.02
        assert np.mean(second) > 0.9  # black on white
        text = json.dumps(body)
        assert 0 < text.index("age 1 of 2:") < text.index("age 2 of 2:")
        assert "pdf;" not in text
        assert "application/pdf" not in text


def test_what_a_block_says_about_its_file_stands_before_the_pages(server: Recorder) -> None:
    [body, _] = send(server, "anthropic", asked(BLOCKS["anthropic"]))
    texts = [block["text"] for block in body["messages"][0]["content"] if block["type"] == "text"]
    assert texts == ["Sum it up.", 'Some context\n"A title", page 1 of 2:', '"A title", page 2 of 2:']
    hiding = BLOCKS["anthropic"] | {"title": f"see {corpus.PNG_URI}", "context": corpus.PNG64}
    server.clear()
    guarded(PROVIDERS["anthropic"](server.base_url), num_samples=NUM_SAMPLES).invoke(asked(hiding))
    assert server.bodies
    assert not any(map(contains_original, server.bodies))


@pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning")
@pytest.mark.parametrize("conversation", [asked, called])
@pytest.mark.parametrize(("provider", "name"), PDF_DIALECTS)
def test_a_pdf_stays_a_pdf_where_wanted(server: Recorder, provider: str, name: str, conversation: Any) -> None:
    for body in send(server, provider, conversation(BLOCKS[name]), send_as="pdf"):
        (medium,) = media_in(body)
        assert sniff(medium).kind == "pdf"
        with pypdfium2.PdfDocument(medium) as document:
            assert [page.get_size() for page in document] == [(67, 50)] * 2
            assert not any(page.get_textpage().get_text_bounded() for page in document)


def test_the_text_layer_goes_along_where_wanted(server: Recorder) -> None:
    [body, _] = send(server, "openai", asked(BLOCKS["v1"]), keep_text=True)
    assert [block.get("text") for block in body["messages"][0]["content"]] == [
        "Sum it up.",
        '"a.pdf", page 1 of 2:',
        None,
        '"a.pdf", page 2 of 2:\nsecret',
        None,
    ]
