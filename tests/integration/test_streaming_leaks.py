"""In no streaming mode does a token reach the user before the vote, or a token of a losing sample at any time.

The guarded model streams word by word. Losing samples contain `LEAK`. The others contain `WINNER`, which may become
visible only after the vote.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from smoothguard_guardrail import (
    GuardComponents,
    SmoothGuardChatModel,
    SmoothGuardConfig,
    SmoothGuardMiddleware,
    SmoothGuardRunnable,
    VoteConfig,
)
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import StanceVoter, Vote
from tests.helpers import answering, question
from tests.scripted_models import StreamingChatModel

pytestmark = pytest.mark.filterwarnings(
    "ignore::langchain_core._api.LangChainBetaWarning"
)  # events version 3 is in beta

CONFIG = SmoothGuardConfig(num_samples=5, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
AGENT_INPUT = {"messages": question()}


class WatchedVoter:
    """Votes by size, and knows whether it has voted."""

    voted = False

    def __call__(self, labels: Sequence[int], stances: Sequence[Stance], benign: Sequence[float]) -> Vote:
        self.voted = True
        return StanceVoter(0.6)(labels, stances)


class Trap:
    """Receives what a user would receive, and fails on a leak."""

    def __init__(self, voter: WatchedVoter) -> None:
        self.voter = voter
        self.items: list[str] = []

    def take(self, item: Any) -> None:
        seen = repr(item)
        assert "LEAK" not in seen
        assert "WINNER" not in seen or self.voter.voted
        self.items.append(seen)

    def drain(self, items: Iterator[Any]) -> None:
        self.voter.voted = False
        for item in items:
            self.take(item)

    async def adrain(self, items: AsyncIterator[Any]) -> None:
        self.voter.voted = False
        async for item in items:
            self.take(item)

    @property
    def winners(self) -> int:
        """The number of items that show the elected answer."""
        return sum("all WINNER over" in item for item in self.items)


@tool
def look(at: str) -> str:
    """Look at something."""
    return "It is there."


def model(**options: Any) -> StreamingChatModel:
    """Return a model that leaks in two of five calls, and calls a tool first if it has one."""
    calls = itertools.count()

    def script(messages: list[BaseMessage]) -> AIMessage:
        word = "LEAK" if next(calls) % 5 in (1, 3) else "WINNER"
        if messages[0].name == "tools" and not isinstance(messages[-1], ToolMessage):
            called = {"name": "look", "args": {"at": word}, "id": "call", "type": "tool_call"}
            return AIMessage(f"I look at {word} now", tool_calls=[called])
        return AIMessage(f"It is all {word} over")

    return StreamingChatModel(script=script, **options)


def guarded_runnable(voter: WatchedVoter, inner: Runnable[Any, Any] | None = None) -> SmoothGuardRunnable:
    return SmoothGuardRunnable(
        inner or model(), config=CONFIG, components=GuardComponents(voter=voter, stance_classifier=answering)
    )


def guarded_chat(voter: WatchedVoter, **changes: Any) -> SmoothGuardChatModel:
    return SmoothGuardChatModel(
        model(), config=CONFIG.override(**changes), components=GuardComponents(voter=voter, stance_classifier=answering)
    )


def guarded_agent(voter: WatchedVoter, tools: list[Any], inner: StreamingChatModel | None = None) -> Any:
    guard = SmoothGuardMiddleware(CONFIG, components=GuardComponents(voter=voter, stance_classifier=answering))
    return create_agent(inner or model(), tools, middleware=[guard])


def graph(chat: Runnable[Any, Any]) -> Any:
    builder = StateGraph(MessagesState)

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [chat.invoke(state["messages"])]}

    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await chat.ainvoke(state["messages"])]}

    builder.add_node("chat", RunnableLambda(node, afunc=anode))
    builder.add_edge(START, "chat")
    return builder.compile()


MODELS: dict[str, Callable[[WatchedVoter], Any]] = {
    "runnable": guarded_runnable,
    "runnable around a binding": lambda voter: guarded_runnable(voter, model().bind(stop=["."])),
    "runnable around tools": lambda voter: guarded_runnable(voter, model().bind_tools([look])),
    "runnable around a retry": lambda voter: guarded_runnable(voter, model().with_retry()),
    "runnable in a chain": lambda voter: RunnableLambda(lambda given: given) | guarded_runnable(voter),
    "chat model": guarded_chat,
    "chat model, samples traced": lambda voter: guarded_chat(voter, trace_samples=True),
    "chat model with tools": lambda voter: guarded_chat(voter).bind_tools([look]),
}
GRAPHS: dict[str, Callable[[WatchedVoter], Any]] = {
    "agent, middleware": lambda voter: guarded_agent(voter, []),
    "agent, middleware, tools": lambda voter: guarded_agent(voter, [look]),
    "agent, chat model": lambda voter: create_agent(guarded_chat(voter), []),
    "agent, chat model, tools": lambda voter: create_agent(guarded_chat(voter), [look]),
    "agent, chat model, samples traced": lambda voter: create_agent(guarded_chat(voter, trace_samples=True), [look]),
} | {f"graph, {name}": lambda voter, make=make: graph(make(voter)) for name, make in MODELS.items()}
GRAPH_MODES = ["messages", "updates", "values", "custom", "debug", "tasks", ["messages", "updates", "values", "custom"]]


@pytest.fixture(params=MODELS)
def chat(request: pytest.FixtureRequest) -> tuple[Any, Trap]:
    voter = WatchedVoter()
    return MODELS[request.param](voter), Trap(voter)


@pytest.fixture(params=GRAPHS)
def agent(request: pytest.FixtureRequest) -> tuple[Any, Trap]:
    voter = WatchedVoter()
    return GRAPHS[request.param](voter), Trap(voter)


def agent_input(agent: Any) -> dict[str, Any]:
    """Return the question, marked so that the model calls its tool if the agent has one."""
    (message,) = question()
    return {"messages": [message.model_copy(update={"name": "tools" if "tools" in agent.nodes else None})]}


async def test_a_stream_is_only_the_elected_answer(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    trap.drain(guarded.stream(question()))
    await trap.adrain(guarded.astream(question()))
    assert trap.winners == len(trap.items) == 2


async def test_events_version_2_leak_nothing(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    await trap.adrain(guarded.astream_events(question(), version="v2"))
    assert trap.winners
    custom_events = [item for item in trap.items if "on_custom_event" in item]
    assert sum("smoothguard.sample" in item for item in custom_events) == 5
    assert sum("smoothguard.verdict" in item for item in custom_events) == 1
    assert not any("WINNER" in item for item in custom_events)
    if isinstance(guarded, SmoothGuardChatModel):
        assert sum("'on_chat_model_stream'" in item for item in trap.items) == 1


@pytest.mark.parametrize("traced", [None, True])
async def test_events_version_3_of_a_chat_model_leak_nothing(traced: bool | None) -> None:
    trap = Trap(WatchedVoter())
    guarded = guarded_chat(trap.voter, trace_samples=traced)
    for chat in (guarded, guarded.bind_tools([look])):
        trap.drain(chat.stream_events(question(), version="v3"))
        await trap.adrain(await chat.astream_events(question(), version="v3"))
    assert trap.winners


@pytest.mark.filterwarnings("ignore:astream_log:langchain_core._api.LangChainDeprecationWarning")
async def test_logs_leak_nothing(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    await trap.adrain(guarded.astream_log(question()))
    assert trap.winners


@pytest.mark.slow
@pytest.mark.parametrize("mode", GRAPH_MODES, ids=str)
async def test_stream_modes_of_a_graph_leak_nothing(agent: tuple[Any, Trap], mode: Any) -> None:
    guarded, trap = agent
    trap.drain(guarded.stream(agent_input(guarded), stream_mode=mode, subgraphs=True))
    sync = trap.winners
    await trap.adrain(guarded.astream(agent_input(guarded), stream_mode=mode))
    assert trap.winners == 2 * sync
    if mode == "messages":
        assert sync == 1
    assert sync or mode == "custom"


@pytest.mark.slow
async def test_events_of_a_graph_leak_nothing(agent: tuple[Any, Trap]) -> None:
    guarded, trap = agent
    await trap.adrain(guarded.astream_events(agent_input(guarded), version="v2"))
    assert trap.winners
    assert any("smoothguard.verdict" in item for item in trap.items)
    trap.drain(iter(guarded.stream_events(agent_input(guarded), version="v3")))
    await trap.adrain(await guarded.astream_events(agent_input(guarded), version="v3"))


class Listener(BaseCallbackHandler):
    """Collects tokens, as `StreamingStdOutCallbackHandler` would print them."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.ends = 0

    def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.tokens.append(str(token))

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.ends += 1


class AsyncListener(Listener, AsyncCallbackHandler):
    async def on_llm_new_token(self, token: Any, **_: Any) -> None:
        self.tokens.append(str(token))

    async def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.ends += 1


class Eager(StreamingChatModel):
    """Streams in every call."""

    streaming: bool = True


@pytest.mark.parametrize("kind", [Listener, AsyncListener])
async def test_token_handlers_receive_only_the_elected_answer(kind: type[Listener]) -> None:
    inner = Eager(script=model().script, streaming=True)
    listener, own = kind(), Listener()
    inner.invoke("Hi", config={"callbacks": [own]})
    assert len(own.tokens) > 3  # it does stream
    own.tokens.clear()
    config = {"callbacks": [listener]}
    guarded = guarded_runnable(WatchedVoter(), inner.model_copy(update={"callbacks": [own]}))
    guarded.invoke(question(), config)
    await guarded.ainvoke(question(), config)
    assert not listener.tokens
    assert not own.tokens
    assert listener.ends == own.ends - 1 == 10  # handlers are still notified of each sample
    chat = SmoothGuardChatModel(
        inner, config=CONFIG, components=GuardComponents(voter=WatchedVoter(), stance_classifier=answering)
    )
    chat.invoke(question(), config)
    await chat.ainvoke(question(), config)
    assert listener.tokens == ["It is all WINNER over "] * 2
    assert listener.ends == 12
    agent = guarded_agent(WatchedVoter(), [], inner)
    agent.invoke(AGENT_INPUT, config)
    await agent.ainvoke(AGENT_INPUT, config)
    assert len(listener.tokens) == 2


@pytest.mark.parametrize("mode", ["messages", "values"])
def test_the_trap_fails_without_a_guard(mode: str) -> None:
    unguarded, trap = create_agent(model()), Trap(WatchedVoter())
    with pytest.raises(AssertionError):  # before the vote
        trap.drain(unguarded.stream(AGENT_INPUT, stream_mode=mode))
    with pytest.raises(AssertionError):  # the second answer loses
        trap.drain(unguarded.stream(AGENT_INPUT, stream_mode=mode))
