"""What users write. It must run, and Pyright must accept it: `make lint` checks this file with basedpyright."""

from __future__ import annotations

import base64
import io

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from PIL import Image
from pydantic import BaseModel

from smoothguard_guardrail import (
    GuardComponents,
    GuardResult,
    ImageConfig,
    MediaConfig,
    MediaLimits,
    RemotePolicy,
    SmoothGuardChatModel,
    SmoothGuardConfig,
    SmoothGuardMiddleware,
    SmoothGuardRunnable,
    VoteConfig,
)
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.scripted_models import StandardChatModel

COMPONENTS = GuardComponents(embedder=WordEmbeddings())


def image() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def question() -> HumanMessage:
    block = {"type": "image", "base64": image(), "mime_type": "image/png"}
    return HumanMessage([block, {"type": "text", "text": "What colour is it?"}])


def chain(guard: SmoothGuardRunnable) -> Runnable[dict[str, str], str]:
    block = {"type": "image", "base64": "{image}", "mime_type": "image/png"}
    prompt = ChatPromptTemplate([("human", [block, {"type": "text", "text": "{question}"}])])
    return prompt | guard | StrOutputParser()


def runnable(config: SmoothGuardConfig | None = None) -> SmoothGuardRunnable:
    return SmoothGuardRunnable(ScriptedChatModel(script=["It is red."]), config, components=COMPONENTS)


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"I see {at}."


class Colour(BaseModel):
    """The colour of a thing."""

    name: str


def test_a_config_needs_no_arguments() -> None:
    config = SmoothGuardConfig()
    assert config == SmoothGuardConfig().override()
    assert config.override(image={"max_shift": 3}).image.max_shift == 3


def test_every_group_of_settings_takes_single_settings() -> None:
    config = SmoothGuardConfig(
        num_samples=4,
        sigma=0.1,
        seed=1,
        image=ImageConfig(low_pass=0.5),
        vote=VoteConfig(min_agreement=0.6, on_abstain="refuse"),
        media=MediaConfig(limits=MediaLimits(max_count=4), remote=RemotePolicy(allow_urls=True)),
    )
    assert config.media.limits.max_count == 4
    assert config.media.remote.allow_urls


def test_a_guard_in_a_chain() -> None:
    guarded = chain(runnable(SmoothGuardConfig(num_samples=3)))
    given = {"image": image(), "question": "What colour is it?"}
    text: str = guarded.invoke(given)
    texts: list[str] = guarded.batch([given, given], {"max_concurrency": 2})
    assert [text, *texts] == ["It is red."] * 3


async def test_a_guard_in_a_stream() -> None:
    guarded = chain(runnable())
    pieces = [piece async for piece in guarded.astream({"image": image(), "question": "What colour is it?"})]
    assert "".join(pieces) == "It is red."


async def test_the_record_of_a_call() -> None:
    result: GuardResult = await runnable().aguard([question()])
    agreement: float | None = result.agreement
    assert (result.verdict, agreement, result.answer.text) == ("passed", 1.0, "It is red.")


def test_a_guard_in_an_agent() -> None:
    middleware = SmoothGuardMiddleware(SmoothGuardConfig(num_samples=3), components=COMPONENTS)
    agent = create_agent(ScriptedChatModel(script=["It is red."]), middleware=[middleware])
    state = agent.invoke({"messages": [question()]})
    assert state["messages"][-1].text == "It is red."


def test_a_guarded_chat_model_calls_tools_and_fills_schemas() -> None:
    chat = SmoothGuardChatModel(StandardChatModel(), SmoothGuardConfig(num_samples=3), components=COMPONENTS)
    assert chat.bind_tools([look]).invoke([question()]).tool_calls[0]["name"] == "look"
    assert isinstance(chat.with_structured_output(Colour).invoke([question()]), Colour)
    state = create_agent(chat, [look]).invoke({"messages": [question()]})
    assert state["messages"][-1].text
