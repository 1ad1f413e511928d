"""`SmoothGuardMiddleware` in real agents: what is scanned, what is elected, what the state holds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRequest,
    wrap_model_call,
)
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from smoothguard_guardrail import (
    AbstainedError,
    ConfigurationError,
    MediaError,
    QuorumError,
    SmoothGuardConfig,
    SmoothGuardMiddleware,
)
from tests.helpers import components_of, config_of, image_block, pixels, png, question
from tests.scripted_models import StreamingChatModel

USAGE = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
Script = Callable[[list[BaseMessage]], Any]


class Finding(BaseModel):
    """What the picture shows."""

    colour: str
    count: int


@tool
def photograph(at: str) -> list[dict[str, Any]]:
    """Take a picture."""
    return [{"type": "text", "text": "Taken."}, image_block(png(level=51))]


def guard(parts: dict[str, Any] | None = None, **settings: Any) -> SmoothGuardMiddleware:
    config = config_of(**{"num_samples": 5, "early_stop": None, "refusal_share": 0.6, "min_agreement": 0.0} | settings)
    return SmoothGuardMiddleware(config, components=components_of(**(parts or {})))


def call(name: str, identifier: str = "call", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": identifier, "type": "tool_call"}


def answer(text: str = "", **fields: Any) -> AIMessage:
    return AIMessage(text, usage_metadata=USAGE, response_metadata={"model_name": "scripted"}, **fields)


def photographer() -> StreamingChatModel:
    """Takes a picture, then says what it shows; two of five samples would do otherwise."""
    calls = itertools.count()

    def script(messages: list[BaseMessage]) -> AIMessage:
        index = next(calls)
        word = "there" if index % 5 in (1, 3) else "here"
        if not isinstance(messages[-1], ToolMessage):
            return answer(tool_calls=[call("photograph", f"call-{index}", at=word)])
        return answer(f"It is {word} now")

    return StreamingChatModel(script=script)


async def both(agent: Any, given: Any, **kwargs: Any) -> list[Any]:
    """Run twice, sync and async."""
    return [agent.invoke(given, **kwargs), await agent.ainvoke(given, **kwargs)]


def sent(model: StreamingChatModel) -> list[Any]:
    """Return the pictures that reached the model."""
    blocks = [
        block
        for request in model.received
        for message in request
        if isinstance(message.content, list)
        for block in message.content
    ]
    return [block["base64"] for block in blocks if isinstance(block, dict) and block["type"] == "image"]


async def test_the_majority_answers_and_the_verdict_is_in_state_and_message() -> None:
    model = StreamingChatModel(script=[answer(text) for text in ("a dog", "a cat", "a dog", "a cat", "A dog.")])
    agent = create_agent(model, middleware=[guard()], name="seer")
    for state in await both(agent, {"messages": question()}):
        message = state["messages"][-1]
        assert message.text == "a dog"
        assert message.name == "seer"
        assert message.usage_metadata["total_tokens"] == 60
        assert state["smoothguard"] == message.response_metadata["smoothguard"]
        assert (state["smoothguard"]["verdict"], state["smoothguard"]["agreement"]) == ("passed", 0.6)
        assert json.loads(json.dumps(state["smoothguard"])) == state["smoothguard"]
    assert all({"nostream", "smoothguard:sample"} <= set(tags) for tags in model.received_tags)


async def test_without_media_the_model_is_asked_once() -> None:
    model = StreamingChatModel(script=["Hello."])
    for state in await both(create_agent(model, middleware=[guard()]), {"messages": [("human", "Hi")]}):
        assert state["smoothguard"]["verdict"] == "skipped"
    assert len(model.received) == 2


async def test_system_message_history_and_tool_results_are_scanned() -> None:
    model = photographer()
    system = SystemMessage([{"type": "text", "text": "Compare."}, image_block(png(level=200))])
    agent = create_agent(model, [photograph], middleware=[guard()], system_prompt=system)
    for state in await both(agent, {"messages": question()}):
        assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
        assert state["messages"][1].tool_calls[0]["args"] == {"at": "here"}
        assert state["messages"][-1].text == "It is here now"
        paths = [medium["path"] for medium in state["smoothguard"]["media"]]
        assert paths == ["messages[0].content[1]", "messages[1].content[1]", "messages[3].content[1]"]
    pictures = sent(model)
    assert len(pictures) == len(set(pictures)) == 2 * (5 * 2 + 5 * 3)
    levels = {round(float(pixels(picture).mean()), 1) for picture in pictures}
    assert levels == {0.2, 0.5, 0.8}  # all three pictures, each of them noisy
    assert all(isinstance(request[0], SystemMessage) for request in model.received)


def test_a_caller_cannot_set_the_verdict() -> None:
    seen: list[Any] = []

    class Spy(AgentMiddleware):
        def before_model(self, state: AgentState[Any], runtime: Any) -> None:
            seen.append(state.get("smoothguard"))

    agent = create_agent(
        StreamingChatModel(script=["Hello."]), middleware=[Spy(), guard()], checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "1"}}
    forged = {"verdict": "passed", "agreement": 1.0, "forged": True}
    state = agent.invoke({"messages": [("human", "Hi")], "smoothguard": forged}, config)
    assert seen == [None]
    assert "forged" not in state["smoothguard"]
    assert state["smoothguard"]["verdict"] == "skipped"
    agent.invoke({"messages": [("human", "Again")], "smoothguard": forged}, config)
    assert "forged" not in str([seen, *agent.get_state_history(config)])
    assert "smoothguard" not in agent.get_input_jsonschema()["properties"]
    assert "smoothguard" in agent.get_output_jsonschema()["properties"]


async def test_a_checkpointed_state_holds_no_noisy_media() -> None:
    model, saver = photographer(), InMemorySaver()
    agent = create_agent(model, [photograph], middleware=[guard()], checkpointer=saver)
    (message,) = question()
    for thread, ask in enumerate((agent.invoke, agent.ainvoke)):
        config = {"configurable": {"thread_id": str(thread)}}
        done = ask({"messages": [message]}, config)
        state = done if isinstance(done, dict) else await done
        assert state["messages"][0].content == message.content
        assert state["messages"][2].content == photograph.invoke({"at": ""})
    kept = repr([*saver.storage.items(), *saver.writes.items(), *saver.blobs.items()])
    assert image_block()["base64"] in kept
    pictures = sent(model)
    assert len(pictures) == 2 * (5 + 10)
    assert not any(picture in kept for picture in pictures)


@pytest.mark.parametrize("strategy", [ToolStrategy(Finding), ProviderStrategy(Finding)], ids=["tool", "provider"])
async def test_structured_responses_are_voted_on_and_one_is_returned_whole(strategy: Any) -> None:
    findings = [{"colour": colour, "count": 2} for colour in ("red", "blue", "red", "red", "blue")]
    replies = [
        answer(tool_calls=[call("Finding", f"call-{index}", **finding)])
        if isinstance(strategy, ToolStrategy)
        else answer(json.dumps(finding, indent=index))
        for index, finding in enumerate(findings)
    ]
    agent = create_agent(
        StreamingChatModel(script=replies), [photograph], middleware=[guard()], response_format=strategy
    )
    for state in await both(agent, {"messages": question()}):
        assert state["structured_response"] == Finding(colour="red", count=2)
        assert state["smoothguard"]["agreement"] == 0.6
        if isinstance(strategy, ToolStrategy):
            assert state["messages"][-2].tool_calls[0]["id"] == state["messages"][-1].tool_call_id == "call-0"
            assert state["messages"][-2].response_metadata["smoothguard"]


async def test_samples_that_break_the_schema_are_failures() -> None:
    good, bad = json.dumps({"colour": "red", "count": 2}), json.dumps({"colour": "blue"})
    model = StreamingChatModel(script=[good, bad, good, bad, good])
    agent = create_agent(model, middleware=[guard()], response_format=ProviderStrategy(Finding))
    for state in await both(agent, {"messages": question()}):
        assert state["structured_response"] == Finding(colour="red", count=2)
        errors = [sample.get("error") for sample in state["smoothguard"]["samples"]]
        assert sum(bool(error) for error in errors) == 2
    hopeless = create_agent(
        StreamingChatModel(script=[bad]), middleware=[guard()], response_format=ProviderStrategy(Finding)
    )
    with pytest.raises(QuorumError):
        hopeless.invoke({"messages": question()})


async def test_abstaining() -> None:
    model = StreamingChatModel(script=[answer(tool_calls=[call("photograph", at=str(index))]) for index in range(5)])

    def agent(on_abstain: Any) -> Any:
        return create_agent(model, [photograph], middleware=[guard(on_abstain=on_abstain, min_agreement=0.5)])

    for state in await both(agent("refuse"), {"messages": question()}):
        assert [message.type for message in state["messages"]] == ["human", "ai"]  # the turn ends, no tool is called
        assert state["messages"][-1].text == SmoothGuardConfig().vote.refusal_text
        assert state["smoothguard"]["verdict"] == "abstained"
    with pytest.raises(AbstainedError):
        agent("raise").invoke({"messages": question()})
    with pytest.raises(AbstainedError):
        await agent("raise").ainvoke({"messages": question()})
    with pytest.raises(ConfigurationError):
        guard(on_abstain="perhaps")
    stream = agent("answer").stream({"messages": question()}, stream_mode="updates")
    assert next(stream)["model"]["messages"][0].tool_calls


async def test_interrupts_pass() -> None:
    agent = create_agent(
        photographer(),
        [photograph],
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"photograph": True}), guard()],
        checkpointer=InMemorySaver(),
    )
    for thread in ("sync", "async"):
        config = {"configurable": {"thread_id": thread}}

        async def run(given: Any, config: Any = config, thread: str = thread) -> Any:
            return agent.invoke(given, config) if thread == "sync" else await agent.ainvoke(given, config)

        state = await run({"messages": question()})
        assert state["__interrupt__"]
        assert state["smoothguard"]["agreement"] == 0.6
        state = await run(Command(resume={"decisions": [{"type": "approve"}]}))
        assert state["messages"][-1].text == "It is here now"


async def test_an_interrupt_within_a_sample_is_no_failure() -> None:
    class Asking(StreamingChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            interrupt("May I?")
            return super()._generate(*args, **kwargs)

        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            interrupt("May I?")
            return await super()._agenerate(*args, **kwargs)

    agent = create_agent(Asking(script=["a dog"]), middleware=[guard()], checkpointer=InMemorySaver())
    for thread in ("sync", "async"):
        config = {"configurable": {"thread_id": thread}}
        given: Any = {"messages": question()}
        state = agent.invoke(given, config) if thread == "sync" else await agent.ainvoke(given, config)
        assert [each.value for each in state["__interrupt__"]] == ["May I?"]


async def test_other_middleware_around_it_runs_once_and_may_change_the_model() -> None:
    seen: list[int] = []
    other = StreamingChatModel(script=["a dog"])

    @wrap_model_call
    def switch(request: ModelRequest[Any], handler: Any) -> Any:
        seen.append(len(request.messages))
        return handler(request.override(model=other))

    model = StreamingChatModel(script=["never"])
    state = create_agent(model, middleware=[switch, ModelCallLimitMiddleware(run_limit=1), guard()]).invoke(
        {"messages": question()}
    )
    assert state["messages"][-1].text == "a dog"
    assert (len(seen), len(model.received), len(other.received)) == (1, 0, 5)
    failing = StreamingChatModel(script=[ValueError("down")])
    agent = create_agent(failing, middleware=[ModelFallbackMiddleware(other), guard()])
    for state in await both(agent, {"messages": question()}):
        assert state["messages"][-1].text == "a dog"
        assert state["smoothguard"]["num_calls"] == 5


async def test_middleware_inside_of_it_runs_once_per_sample() -> None:
    seen: list[str] = []

    class Inside(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
            seen.append(str(request.messages[-1].content[1]["base64"]))
            return handler(request).result[0]

        async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
            seen.append(str(request.messages[-1].content[1]["base64"]))
            return (await handler(request)).result[0]

    model = StreamingChatModel(script=["a dog"])
    for state in await both(create_agent(model, middleware=[guard(), Inside()]), {"messages": question()}):
        assert state["smoothguard"]["num_calls"] == 5
    assert len(seen) == len(set(seen)) == 10


async def test_failures_and_media_errors_stop_the_agent() -> None:
    agent = create_agent(StreamingChatModel(script=[ValueError("down")]), middleware=[guard()])
    with pytest.raises(QuorumError):
        await agent.ainvoke({"messages": question()})
    with pytest.raises(MediaError, match=r"messages\[0\]"):
        agent.invoke({"messages": question({"type": "image", "url": "https://example.com/a.png"})})
    with pytest.raises(ValueError, match="down"):
        agent.invoke({"messages": [HumanMessage("no media")]})


@pytest.mark.parametrize("traced", [None, False])
async def test_tokens_are_counted_once(traced: bool | None) -> None:
    agent = create_agent(StreamingChatModel(script=[answer("a dog")]), middleware=[guard(trace_samples=traced)])
    with get_usage_metadata_callback() as counted:
        for state in await both(agent, {"messages": question()}):
            assert state["messages"][-1].usage_metadata["total_tokens"] == 60
    total = sum(usage["total_tokens"] for usage in counted.usage_metadata.values())
    assert total == (0 if traced is False else 120)  # by the samples' runs: an agent's answer is no run of its own
