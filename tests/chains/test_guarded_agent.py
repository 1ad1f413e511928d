from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from chains.guarded_agent import SYSTEM, RuleThenViewer, build_agent, image_tool, main
from smoothguard_guardrail import SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core import components
from smoothguard_guardrail.models.reference.demo import load_demo
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.helpers import png
from tests.scripted_models import StreamingChatModel

CONFIG = SmoothGuardConfig(num_samples=3, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    path = tmp_path / "cat.png"
    path.write_bytes(png())
    return {"cat": path}


def _calls_or_answers(messages: list[BaseMessage]) -> AIMessage:
    if isinstance(messages[-1], ToolMessage):
        return AIMessage("A grey cat.")
    call: Any = {"name": "open_image", "args": {"name": "cat"}, "id": "1"}
    return AIMessage("", tool_calls=[call])


def _image(message: BaseMessage) -> str:
    (block,) = (block for block in message.content_blocks if block["type"] == "image")
    return block["base64"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_images_that_tools_return_reach_the_model_noisy_and_stay_in_the_state(
    album: dict[str, Path], asynchronous: bool
) -> None:
    model = StreamingChatModel(script=_calls_or_answers)
    agent = build_agent(model, [image_tool(album)], CONFIG)
    asked = {"messages": [("human", "What is in cat?")]}
    state = await agent.ainvoke(asked) if asynchronous else agent.invoke(asked)
    human, _, opened, answer = state["messages"]
    assert (human.text, answer.text) == ("What is in cat?", "A grey cat.")
    assert state["smoothguard"]["verdict"] == "passed"
    first, *samples = model.received
    assert first[0].text == SYSTEM
    arrived = {_image(sample[-1]) for sample in samples}
    assert len(arrived) == CONFIG.num_samples
    assert _image(opened) not in arrived


def test_the_rule_opens_the_named_image_and_asks_the_viewer(album: dict[str, Path]) -> None:
    viewer = ScriptedChatModel(script=["A dog.", "A cat.", "A cat."])
    agent = build_agent(RuleThenViewer(viewer=viewer), [image_tool(album)], CONFIG)
    state = agent.invoke({"messages": [("human", "cat: What is it?")]})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert state["messages"][-1].text == "A cat."
    assert state["smoothguard"]["agreement"] == pytest.approx(2 / 3)
    assert [message.text for (message,) in viewer.received] == ["What is it?"] * 3
    assert len({_image(message) for (message,) in viewer.received}) == 3


def test_an_unknown_image_name_is_reported(album: dict[str, Path]) -> None:
    viewer = ScriptedChatModel(script=["I don't know."])
    agent = build_agent(RuleThenViewer(viewer=viewer), [image_tool(album)], CONFIG)
    state = agent.invoke({"messages": [("human", "dog: What is it?")]})
    assert state["messages"][2].text == "There is no image called 'dog'."
    assert state["smoothguard"]["verdict"] == "skipped"


def test_main_answers_offline_about_an_adversarial_image(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    human, called, opened, answer, verdict = capsys.readouterr().out.strip().splitlines()
    image = load_demo().pictures[0]
    assert human == f"human: {image.name}: {image.question}"
    assert called == f"ai: open_image({{'name': '{image.name}'}})"
    assert opened == "tool: (an image)"
    assert answer.startswith("ai: ")
    assert verdict.startswith("verdict: passed")
