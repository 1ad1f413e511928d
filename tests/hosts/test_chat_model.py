"""`SmoothGuardChatModel` where the standard suites do not look: votes, tokens, runs, bindings, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler, get_usage_metadata_callback
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs
from langgraph.errors import GraphInterrupt
from pydantic import BaseModel

from smoothguard_guardrail import (
    AbstainedError,
    ConfigurationError,
    MediaError,
    QuorumError,
    SmoothGuardChatModel,
)
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import components_of, config_of, image_block, png, question
from tests.scripted_models import StandardChatModel, StreamingChatModel

USAGE = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}


class Finding(BaseModel):
    """What the picture shows."""

    colour: str
    count: int


@tool
def paint(colour: str) -> str:
    """Paint the wall."""
    return f"It is {colour} now."


def chat(inner: Any, parts: dict[str, Any] | None = None, **changes: Any) -> SmoothGuardChatModel:
    config = config_of(**{"num_samples": 5, "early_stop": None, "refusal_share": 0.6, "min_agreement": 0.0} | changes)
    return SmoothGuardChatModel(inner, config=config, components=components_of(**(parts or {})))


def answer(text: str = "", **fields: Any) -> AIMessage:
    return AIMessage(text, usage_metadata=USAGE, response_metadata={"model_name": "scripted"}, **fields)


def painting(colour: str, identifier: str) -> AIMessage:
    return answer(tool_calls=[{"name": "paint", "args": {"colour": colour}, "id": identifier, "type": "tool_call"}])


async def both(guarded: Any, given: Any, **kwargs: Any) -> list[Any]:
    """Ask twice, sync and async."""
    return [guarded.invoke(given, **kwargs), await guarded.ainvoke(given, **kwargs)]


@pytest.mark.parametrize("kind", [ScriptedChatModel, AsyncScriptedChatModel, StreamingChatModel])
async def test_the_majority_answers_and_the_record_says_so(kind: type[ScriptedChatModel]) -> None:
    inner = kind(script=[answer(text) for text in ("a dog", "a cat", "a dog", "a cat", "A dog.")])
    for message in await both(chat(inner, max_concurrency=1), question()):  # in the order of the script
        assert type(message) is AIMessage
        assert message.text == "a dog"
        record = message.response_metadata["smoothguard"]
        assert (record["verdict"], record["agreement"], record["num_calls"]) == ("passed", 0.6, 5)
        assert record["media"][0]["action"] == "perturbed"
        assert json.loads(json.dumps(record)) == record
        assert message.usage_metadata == {"input_tokens": 50, "output_tokens": 10, "total_tokens": 60}
    assert all(tags[:2] == ["nostream", "smoothguard:sample"] for tags in inner.received_tags)


async def test_a_request_without_media_is_asked_once() -> None:
    inner = AsyncScriptedChatModel(script=[answer("Hello.")])
    for message in await both(chat(inner), "Hi"):
        assert message.response_metadata["smoothguard"]["verdict"] == "skipped"
        assert message.usage_metadata == USAGE
    assert len(inner.received) == 2


async def test_tool_calls_are_voted_on_and_one_is_returned_whole() -> None:
    calls = [painting(colour, f"call-{index}") for index, colour in enumerate(("red", "blue", "red", "red", "blue"))]
    red = [call.tool_calls for call in calls if call.tool_calls[0]["args"]["colour"] == "red"]
    guarded = chat(StreamingChatModel(script=calls)).bind_tools([paint])
    for message in await both(guarded, question()):
        assert message.tool_calls in red  # which one depends on which call was answered first
        assert message.response_metadata["smoothguard"]["agreement"] == 0.6
    (chunk,) = guarded.stream(question())
    assert isinstance(chunk, AIMessageChunk)
    assert chunk.tool_calls in red
    assert chunk.chunk_position == "last"


async def test_structured_output_is_voted_on_in_every_way_to_get_it() -> None:
    findings = [{"colour": colour, "count": 2} for colour in ("red", "blue", "red", "red", "blue")]
    by_tool = [
        answer(tool_calls=[{"name": "Finding", "args": finding, "id": str(index), "type": "tool_call"}])
        for index, finding in enumerate(findings)
    ]
    guarded = chat(StreamingChatModel(script=by_tool)).with_structured_output(Finding)
    assert await both(guarded, question()) == [Finding(colour="red", count=2)] * 2
    assert [*guarded.stream(question())] == [Finding(colour="red", count=2)]
    raw = chat(StreamingChatModel(script=by_tool)).with_structured_output(Finding, include_raw=True)
    for whole in await both(raw, question()):
        assert whole["parsed"] == Finding(colour="red", count=2)
        assert whole["raw"].response_metadata["smoothguard"]["agreement"] == 0.6

    class Schematic(StandardChatModel):
        script: Any

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            result.generations[0].message = self.script.invoke("")
            return result

    # The same object, written in other ways.
    texts = [json.dumps(findings[0]), json.dumps(findings[1]), json.dumps(findings[0], indent=1)]
    texts += ['{"count": 2, "colour": "red"}', json.dumps(findings[1])]
    inner = Schematic(script=ScriptedChatModel(script=texts))
    for method in ("json_schema", "json_mode"):
        schematic = chat(inner).with_structured_output(Finding, method=method)
        assert await both(schematic, question()) == [Finding(colour="red", count=2)] * 2


def test_an_agent_runs_on_it() -> None:
    def script(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return answer("Done.")
        return painting("red", "call")

    agent = create_agent(chat(StreamingChatModel(script=script)), [paint], system_prompt="Paint.")
    state = agent.invoke({"messages": question()})
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]
    assert all(message.response_metadata["smoothguard"] for message in state["messages"][1::2])


class Starts(BaseCallbackHandler):
    def __init__(self) -> None:
        self.starts: list[list[str]] = []
        self.events: list[tuple[str, Any]] = []

    def on_chat_model_start(self, *_: Any, tags: list[str] | None = None, **__: Any) -> None:
        self.starts.append(tags or [])

    def on_custom_event(self, name: str, data: Any, **_: Any) -> None:
        self.events.append((name, data))


@pytest.mark.parametrize("kind", [ScriptedChatModel, AsyncScriptedChatModel])
@pytest.mark.parametrize("traced", [None, False, True])
async def test_tokens_are_counted_once(kind: type[ScriptedChatModel], traced: bool | None) -> None:
    guarded = chat(kind(script=[answer("a dog")]), trace_samples=traced)
    for ask in (guarded.invoke, guarded.ainvoke):
        counter, starts = UsageMetadataCallbackHandler(), Starts()
        with get_usage_metadata_callback() as by_context, collect_runs() as runs:
            message = ask(question(), {"callbacks": [counter, starts]})
            message = message if isinstance(message, AIMessage) else await message
        for usage in (counter.usage_metadata, by_context.usage_metadata):
            assert usage["scripted"]["total_tokens"] == 60
        assert message.response_metadata["smoothguard"]["usage"]["total_tokens"] == 60
        assert message.usage_metadata is None if traced else message.usage_metadata["total_tokens"] == 60
        assert len(starts.starts) == (6 if traced else 1)
        assert len(runs.traced_runs) == 1  # no sample is a root of its own


async def test_progress_goes_out_without_texts() -> None:
    replies = [ValueError("a secret"), "a dog"]
    guarded = chat(AsyncScriptedChatModel(script=replies), num_samples=4, min_successes=2)
    for ask in (guarded.invoke, guarded.ainvoke):
        starts = Starts()
        message = ask(question(), {"callbacks": [starts]})
        message = message if isinstance(message, AIMessage) else await message
        samples = [data for name, data in starts.events if name == "smoothguard.sample"]
        assert sorted(data["index"] for data in samples) == [0, 1, 2, 3]
        assert sum(data["error"] == "ValueError" for data in samples) == 2
        assert [name for name, _ in starts.events].count("smoothguard.verdict") == 1
        assert "a secret" not in str(starts.events)
        assert "a dog" not in str(starts.events)


def test_it_works_without_a_run() -> None:
    guarded = chat(ScriptedChatModel(script=["a dog"]))
    assert guarded._generate(question()).generations[0].message.text == "a dog"
    assert [chunk.text for chunk in guarded._stream(question())] == ["a dog"]


async def test_errors_pass_and_signals_are_no_failures() -> None:
    for error, expected in ((ValueError("no"), QuorumError), (GraphInterrupt(()), GraphInterrupt)):
        guarded = chat(AsyncScriptedChatModel(script=[error]))
        with pytest.raises(expected):
            guarded.invoke(question())
        with pytest.raises(expected):
            await guarded.ainvoke(question())
    disagreeing = ScriptedChatModel(script=[answer("one"), answer("two"), answer("three")])
    guarded = chat(disagreeing, min_agreement=0.9)
    assert guarded.invoke(question()).response_metadata["smoothguard"]["verdict"] == "abstained"
    refusing = guarded.model_copy(update={"config": guarded.config.override(vote={"on_abstain": "refuse"})})
    with get_usage_metadata_callback() as counted:
        assert refusing.invoke(question()).text == refusing.config.vote.refusal_text
    assert counted.usage_metadata["scripted"]["total_tokens"] == 60
    raising = guarded.model_copy(update={"config": guarded.config.override(vote={"on_abstain": "raise"})})
    with pytest.raises(AbstainedError):
        raising.invoke(question())
    with pytest.raises(MediaError):
        guarded.invoke(question({"type": "image", "url": "https://example.com/a.png"}))


def test_what_is_bound_reaches_the_inner_model() -> None:
    received: list[dict[str, Any]] = []

    class Keeping(StandardChatModel):
        def _generate(
            self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> Any:
            received.append({"stop": stop} | kwargs)
            return super()._generate(messages, stop, run_manager, **kwargs)

    guarded = chat(Keeping(), num_samples=2)
    guarded.bind(stop=["."], seed=3).invoke(question(), tool_choice="x")
    assert received == [{"stop": ["."], "seed": 3, "tool_choice": "x"}] * 2
    received.clear()
    guarded.bind_tools([paint], tool_choice="any", strict=True).bind(stop=[";"]).invoke(question())
    assert {"stop": [";"], "tool_choice": "any", "strict": True}.items() <= received[0].items()
    assert received[0]["tools"][0]["function"]["name"] == "paint"


def test_no_way_around_the_guard() -> None:
    class Hiding(StandardChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return RunnableLambda(self.invoke)

    with pytest.raises(ConfigurationError, match="hides its chat model"):
        chat(Hiding()).bind_tools([paint])
    with pytest.raises(NotImplementedError):
        chat(ScriptedChatModel(script=["x"])).bind_tools([paint])
    with pytest.raises(ConfigurationError, match="temperature"):
        SmoothGuardChatModel(StandardChatModel(), temperature=0)
    with pytest.raises(ConfigurationError, match="chat model"):
        SmoothGuardChatModel(RunnableLambda(str))  # type: ignore[arg-type]

    class Copying(StandardChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self.model_copy(update={"model_name": "standard-tools"}).bind(tools=[]) | RunnableLambda(keep)

    def keep(message: AIMessage) -> AIMessage:
        return message

    message = chat(Copying()).bind_tools([paint]).invoke(question())
    assert message.response_metadata["smoothguard"]["verdict"] == "passed"
    assert message.response_metadata["model_name"] == "standard-tools"


def test_it_passes_for_the_inner_model() -> None:
    inner = StandardChatModel(profile={"structured_output": True}, custom_get_token_ids=lambda text: [1] * len(text))
    guarded = chat(inner)
    assert guarded.profile == inner.profile
    assert guarded.model_name == "standard-1"
    assert guarded._get_ls_params(stop=["."]) == inner._get_ls_params(stop=["."])
    assert guarded.get_num_tokens("four") == 4
    assert guarded.get_num_tokens_from_messages(question()) == inner.get_num_tokens_from_messages(question())
    assert guarded.asdict()["guard"]["num_samples"] == 5
    assert "seed" not in guarded.asdict()["guard"]
    assert chat(FakeListChatModel(responses=["a dog"])).model_name is None


def test_a_copy_has_its_own_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = ScriptedChatModel(script=["a dog"])
    guarded = chat(inner)
    guarded.invoke(question())
    guarded.model_copy(update={"config": guarded.config.override(num_samples=2)}).invoke(question())
    assert len(inner.received) == 7
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda name: inner)
    assert SmoothGuardChatModel("any:name").inner is inner


def test_media_of_every_message_are_perturbed() -> None:
    inner = ScriptedChatModel(script=["a dog"])
    tool_message = ToolMessage([image_block(png(level=60))], tool_call_id="call")
    chat(inner).invoke([*question(), painting("red", "call"), tool_message])
    sent = {json.dumps(message.content) for request in inner.received for message in request if message.type != "ai"}
    assert len(sent) == 10
    assert not any(json.dumps(message.content) in sent for message in (*question(), tool_message))


@pytest.mark.parametrize("field", ["inner", "config", "components"])
def test_a_guard_cannot_be_changed_after_the_fact(field: str) -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(chat(ScriptedChatModel(script=["Hi."])), field, None)
