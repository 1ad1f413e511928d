from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chains.visual_question_answering import SYSTEM, build_chain, chain_input, main
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core import components
from smoothguard_guardrail.models.reference.demo import load_demo
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings

QUESTION = "What does {this} show?"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(path)
    return path


def test_chain_guards_the_image_and_returns_text(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    model = ScriptedChatModel(script=["A cat.", "A dog.", "A cat."])
    chain = build_chain(model, SmoothGuardConfig(num_samples=3, early_stop=None))
    given = chain_input(image, QUESTION)
    assert chain.invoke(given) == "A cat."
    assert len(model.received) == 3
    for system, human in model.received:
        assert system.content == SYSTEM
        image, text = human.content_blocks
        assert image["type"] == "image"
        assert image["base64"] != given["image"]
        assert (text["type"], text["text"]) == ("text", QUESTION)  # type: ignore[typeddict-item]


async def test_async_chain_gives_the_same(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    chain = build_chain(ScriptedChatModel(script=["A cat."]))
    assert await chain.ainvoke(chain_input(image, QUESTION)) == "A cat."


def test_main_answers_offline(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    question, answer = capsys.readouterr().out.strip().splitlines()
    assert question == load_demo().pictures[0].question
    assert answer
