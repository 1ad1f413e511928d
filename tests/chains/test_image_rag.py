from __future__ import annotations

import re
from typing import Any

import pytest
from langchain_core.messages import BaseMessage

from chains.image_rag import CAPTION_QUESTION, Page, build_chain, index_pages, main
from smoothguard_guardrail import SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core import components
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import pixels, png

CONFIG = SmoothGuardConfig(num_samples=3, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
PAGES = [
    Page(source="page 1", image=png(level=40), text="Report about pets."),
    Page(source="page 2", image=png(level=200), text="Report about tools."),
    Page(source="image.png", image=png(level=120)),
]


def _images(message: BaseMessage) -> list[str]:
    return [block["base64"] for block in message.content_blocks if block["type"] == "image"]


def _sees(messages: list[BaseMessage]) -> str:
    """Answer by the brightness of the last image."""
    if not (images := _images(messages[-1])):
        return "Nothing."
    level = pixels(images[-1]).mean() * 255
    return "A dark cat." if level < 80 else "A grey stone." if level < 160 else "A white hammer."


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedChatModel:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    return ScriptedChatModel(script=_sees)


async def test_captions_and_answers_come_only_from_noisy_images(model: ScriptedChatModel) -> None:
    store = index_pages(PAGES, model, WordEmbeddings(), CONFIG)
    originals = {store_document["metadata"]["image"]["base64"] for store_document in store.store.values()}
    assert len(model.received) == len(PAGES) * CONFIG.num_samples
    assert {message.text for (message,) in model.received} == {CAPTION_QUESTION}
    chain = build_chain(model, store, CONFIG)
    answer = chain.invoke("Where is the hammer?")
    assert (answer.text, answer.sources) == ("A white hammer.", ["page 2"])
    assert (answer.verdict, answer.agreement) == ("passed", 1.0)
    assert await chain.ainvoke("Where is the hammer?") == answer
    arrived = [image for (message,) in model.received for image in _images(message)]
    assert len(arrived) == len(set(arrived)) == (len(PAGES) + 2) * CONFIG.num_samples
    assert originals.isdisjoint(arrived)


def test_pages_are_found_by_their_text_and_their_text_is_shown(model: ScriptedChatModel) -> None:
    chain = build_chain(model, index_pages(PAGES, model, WordEmbeddings(), CONFIG), CONFIG, num_pages=2)
    model.received.clear()
    answer = chain.invoke("Report about pets")
    assert answer.sources == ["page 1", "page 2"]
    for (message,) in model.received:
        blocks: list[Any] = message.content_blocks
        assert [block["type"] for block in blocks] == ["text", "image", "text", "image", "text"]
        assert blocks[0]["text"] == "Report about pets."
        assert blocks[-1]["text"] == "Report about pets"


def test_an_empty_store_gives_an_answer_without_an_image(model: ScriptedChatModel) -> None:
    answer = build_chain(model, index_pages([], model, WordEmbeddings(), CONFIG), CONFIG).invoke("What is it?")
    assert (answer.text, answer.sources, answer.verdict) == ("Nothing.", [], "skipped")


@pytest.mark.slow
def test_main_finds_images_and_answers_from_them_offline(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 6
    named = [
        re.fullmatch(r"Where is the (.*)\? The \1 is at the .*\. \(image \d; passed, .*\)", line) for line in lines
    ]
    assert sum(match is not None for match in named) >= 5
