from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from chains.structured_extraction import (
    INSTRUCTION,
    ImageContent,
    Shape,
    build_chain,
    build_chain_from_text,
    chain_input,
    main,
    parse_description,
)
from smoothguard_guardrail import SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core import components
from smoothguard_guardrail.errors import AbstainedError, QuorumError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.models.reference.scenes import Scene, draw, scenes
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import png
from tests.scripted_models import StreamingChatModel

RED = "A red circle at the top left and a blue cross at the centre, with a badge and a stop sign."
GREEN = "A green circle at the top left and a blue cross at the centre, with a badge and a stop sign."
CONFIG = SmoothGuardConfig(num_samples=5, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    path = tmp_path / "image.png"
    path.write_bytes(png())
    return path


def test_a_description_is_parsed() -> None:
    assert parse_description(RED) == ImageContent(
        shapes=[
            Shape(colour="red", shape="circle", position="top left"),
            Shape(colour="blue", shape="cross", position="centre"),
        ],
        marks=["badge", "stop sign"],
    )
    with pytest.raises(ValueError, match="at least one shape"):
        parse_description("I'm sorry, I can't share that.")


def test_the_vote_counts_objects_not_sentences(image: Path) -> None:
    model = ScriptedChatModel(script=[GREEN, RED, f"  {RED.upper()} ", GREEN, RED])
    given = chain_input(image)
    assert build_chain_from_text(model, ImageContent, parse_description, CONFIG).invoke(given) == parse_description(RED)
    for (human,) in model.received:
        image, text = human.content_blocks
        assert image["base64"] != given["image"]
        assert text["text"] == INSTRUCTION  # type: ignore[typeddict-item]


def test_answers_that_cannot_be_parsed_do_not_count(image: Path) -> None:
    model = ScriptedChatModel(script=["What?", RED, RED, "Hm.", RED])
    chain = build_chain_from_text(model, ImageContent, parse_description, CONFIG)
    assert chain.invoke(chain_input(image)) == parse_description(RED)
    chain = build_chain_from_text(ScriptedChatModel(script=["What?"]), ImageContent, parse_description, CONFIG)
    with pytest.raises(QuorumError, match="at least one shape"):
        chain.invoke(chain_input(image))


def test_nothing_is_returned_that_the_samples_disagree_on(image: Path) -> None:
    config = CONFIG.override(vote={"min_agreement": 0.7, "on_abstain": "raise"})
    chain = build_chain_from_text(ScriptedChatModel(script=[RED, GREEN]), ImageContent, parse_description, config)
    with pytest.raises(AbstainedError):
        chain.invoke(chain_input(image))


def _extracted(colour: str) -> AIMessage:
    call: Any = {"name": "Shape", "args": {"position": "centre", "shape": "circle", "colour": colour}, "id": colour}
    return AIMessage("", tool_calls=[call])


async def test_a_model_with_tools_extracts_by_its_own_structured_output(image: Path) -> None:
    model = StreamingChatModel(script=[_extracted(colour) for colour in ("green", "red", "red", "green", "red")])
    given = chain_input(image)
    expected = Shape(colour="red", shape="circle", position="centre")
    chain = build_chain(model, Shape, CONFIG, instruction="Extract {the} shape.")
    assert chain.invoke(given) == expected
    assert await chain.ainvoke(given) == expected
    assert len(model.received) == 10
    for (human,) in model.received:
        image, text = human.content_blocks
        assert image["base64"] != given["image"]
        assert text["text"] == "Extract {the} shape."  # type: ignore[typeddict-item]


def _shown(scene: Scene) -> ImageContent:
    shapes = [Shape(colour=item.colour, shape=item.shape, position=item.position) for item in scene.items]
    marks = ["stop sign" if name == "sign" else name for name in scene.mark_names]
    return ImageContent(shapes=shapes, marks=marks)


@pytest.mark.slow
def test_the_reference_model_extracts_the_content(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    chain = build_chain_from_text(
        model, ImageContent, parse_description, SmoothGuardConfig.reference(seed=1, sigma=0.1)
    )
    right = 0
    for scene in scenes(5, seed=3):
        path = tmp_path / f"{scene.seed}.png"
        draw(scene).save(path)
        assert base64.b64decode(chain_input(path)["image"]) == path.read_bytes()
        right += chain.invoke(chain_input(path)) == _shown(scene)
    assert right >= 4


def test_main_extracts_offline(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert ImageContent.model_validate(json.loads(capsys.readouterr().out)).shapes


def test_samples_that_disagree_raise_instead_of_refusing() -> None:
    answers = [f"A {colour} circle at the centre." for colour in ("red", "green", "blue", "purple")]
    chain = build_chain_from_text(ScriptedChatModel(script=answers), ImageContent, parse_description)
    picture = next(picture for picture in load_demo().pictures if not picture.is_attack)
    with pytest.raises(AbstainedError):
        chain.invoke(chain_input(DEMO_DIR / picture.file))
