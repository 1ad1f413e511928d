"""No token of any sample reaches the user before the vote, and none of a losing sample ever, in any mode.

The model under guard streams word by word. What it says in losing samples holds `LEAK`; what it says in the others
holds `WINNER`, which may be seen only once the embedder was asked, that is once there was a vote.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from smoothguard_guardrail import SmoothGuardChatModel, SmoothGuardConfig, SmoothGuardMiddleware, SmoothGuardRunnable
from smoothguard_guardrail.testing import WordEmbeddings
from tests.asking import neutral, question
from tests.scripted import StreamingChatModel

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")  # version 3 of events

CONFIG = SmoothGuardConfig(num_samples=5, early_stop=None, benign_weight=0.0)
ASKED = {"messages": question()}


class Judge(WordEmbeddings):
    """An embedder that remembers whether it was asked: before that there was no vote."""

    voted = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.voted = True
        return super().embed_documents(texts)


class Trap:
    """Takes what a user receives, and springs on a leak."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.items: list[str] = []

    def take(self, item: Any) -> None:
        seen = repr(item)
        assert "LEAK" not in seen
        assert "WINNER" not in seen or self.judge.voted
        self.items.append(seen)

    def drain(self, items: Iterator[Any]) -> None:
        self.judge.voted = False
        for item in items:
            self.take(item)

    async def adrain(self, items: AsyncIterator[Any]) -> None:
        self.judge.voted = False
        async for item in items:
            self.take(item)

    @property
    def winners(self) -> int:
        """How many items showed the elected answer."""
        return sum("all WINNER over" in item for item in self.items)


@tool
def look(at: str) -> str:
    """Look at something."""
    return "It is there."


def model(**options: Any) -> StreamingChatModel:
    """Answers two of five calls with a leak; calls a tool first where it has one."""
    calls = itertools.count()

    def script(messages: list[BaseMessage]) -> AIMessage:
        word = "LEAK" if next(calls) % 5 in (1, 3) else "WINNER"
        if messages[0].name == "tools" and not isinstance(messages[-1], ToolMessage):
            called = {"name": "look", "args": {"at": word}, "id": "call", "type": "tool_call"}
            return AIMessage(f"I look at {word} now", tool_calls=[called])
        return AIMessage(f"It is all {word} over")

    return StreamingChatModel(script=script, **options)


def guarded_runnable(judge: Judge, inner: Runnable[Any, Any] | None = None) -> SmoothGuardRunnable:
    return SmoothGuardRunnable(inner or model(), config=CONFIG, embedder=judge, benign_scorer=neutral)


def guarded_chat(judge: Judge, **knobs: Any) -> SmoothGuardChatModel:
    return SmoothGuardChatModel(inner=model(), config=CONFIG.override(**knobs), embedder=judge, benign_scorer=neutral)


def guarded_agent(judge: Judge, tools: list[Any], inner: StreamingChatModel | None = None) -> Any:
    guard = SmoothGuardMiddleware(CONFIG, embedder=judge, benign_scorer=neutral)
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


MODELS: dict[str, Callable[[Judge], Any]] = {
    "runnable": guarded_runnable,
    "runnable around a binding": lambda judge: guarded_runnable(judge, model().bind(stop=["."])),
    "runnable around tools": lambda judge: guarded_runnable(judge, model().bind_tools([look])),
    "runnable around a retry": lambda judge: guarded_runnable(judge, model().with_retry()),
    "runnable in a chain": lambda judge: RunnableLambda(lambda given: given) | guarded_runnable(judge),
    "chat model": guarded_chat,
    "chat model, samples traced": lambda judge: guarded_chat(judge, trace_samples=True),
    "chat model with tools": lambda judge: guarded_chat(judge).bind_tools([look]),
}
GRAPHS: dict[str, Callable[[Judge], Any]] = {
    "agent, middleware": lambda judge: guarded_agent(judge, []),
    "agent, middleware, tools": lambda judge: guarded_agent(judge, [look]),
    "agent, chat model": lambda judge: create_agent(guarded_chat(judge), []),
    "agent, chat model, tools": lambda judge: create_agent(guarded_chat(judge), [look]),
    "agent, chat model, samples traced": lambda judge: create_agent(guarded_chat(judge, trace_samples=True), [look]),
} | {f"graph, {name}": lambda judge, make=make: graph(make(judge)) for name, make in MODELS.items()}
GRAPH_MODES = ["messages", "updates", "values", "custom", "debug", "tasks", ["messages", "updates", "values", "custom"]]


@pytest.fixture(params=MODELS)
def chat(request: pytest.FixtureRequest) -> tuple[Any, Trap]:
    judge = Judge()
    return MODELS[request.param](judge), Trap(judge)


@pytest.fixture(params=GRAPHS)
def agent(request: pytest.FixtureRequest) -> tuple[Any, Trap]:
    judge = Judge()
    return GRAPHS[request.param](judge), Trap(judge)


def asked(agent: Any) -> dict[str, Any]:
    """Return the question, marked so that the model calls its tool where the agent has one."""
    (message,) = question()
    return {"messages": [message.model_copy(update={"name": "tools" if "tools" in agent.nodes else None})]}


async def test_a_stream_is_the_elected_answer_alone(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    trap.drain(guarded.stream(question()))
    await trap.adrain(guarded.astream(question()))
    assert trap.winners == len(trap.items) == 2


async def test_events_of_version_2(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    await trap.adrain(guarded.astream_events(question(), version="v2"))
    assert trap.winners
    told = [item for item in trap.items if "on_custom_event" in item]
    assert sum("smoothguard.sample" in item for item in told) == 5
    assert sum("smoothguard.verdict" in item for item in told) == 1
    assert not any("WINNER" in item for item in told)
    if isinstance(guarded, SmoothGuardChatModel):
        assert sum("'on_chat_model_stream'" in item for item in trap.items) == 1


@pytest.mark.parametrize("traced", [None, True])
async def test_events_of_version_3_of_a_chat_model(traced: bool | None) -> None:
    trap = Trap(Judge())
    guarded = guarded_chat(trap.judge, trace_samples=traced)
    for each in (guarded, guarded.bind_tools([look])):
        trap.drain(each.stream_events(question(), version="v3"))
        await trap.adrain(await each.astream_events(question(), version="v3"))
    assert trap.winners


@pytest.mark.filterwarnings("ignore:astream_log:langchain_core._api.LangChainDeprecationWarning")
async def test_logs(chat: tuple[Any, Trap]) -> None:
    guarded, trap = chat
    await trap.adrain(guarded.astream_log(question()))
    assert trap.winners


@pytest.mark.parametrize("mode", GRAPH_MODES, ids=str)
async def test_modes_of_a_graph(agent: tuple[Any, Trap], mode: Any) -> None:
    guarded, trap = agent
    trap.drain(guarded.stream(asked(guarded), stream_mode=mode, subgraphs=True))
    sync = trap.winners
    await trap.adrain(guarded.astream(asked(guarded), stream_mode=mode))
    assert trap.winners == 2 * sync
    if mode == "messages":
        assert sync == 1
    assert sync or mode == "custom"


async def test_events_of_a_graph(agent: tuple[Any, Trap]) -> None:
    guarded, trap = agent
    await trap.adrain(guarded.astream_events(asked(guarded), version="v2"))
    assert trap.winners
    assert any("smoothguard.verdict" in item for item in trap.items)
    trap.drain(iter(guarded.stream_events(asked(guarded), version="v3")))
    await trap.adrain(await guarded.astream_events(asked(guarded), version="v3"))


class Listener(BaseCallbackHandler):
    """Prints tokens, as `StreamingStdOutCallbackHandler` does; or would."""

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
    """Streams even when it is not asked to."""

    streaming: bool = True


@pytest.mark.parametrize("kind", [Listener, AsyncListener])
async def test_who_listens_for_tokens_hears_the_elected_answer_alone(kind: type[Listener]) -> None:
    inner = Eager(script=model().script, streaming=True)
    heard, own = kind(), Listener()
    inner.invoke("Hi", config={"callbacks": [own]})
    assert len(own.tokens) > 3  # it does stream
    own.tokens.clear()
    config = {"callbacks": [heard]}
    guarded = guarded_runnable(Judge(), inner.model_copy(update={"callbacks": [own]}))
    guarded.invoke(question(), config)
    await guarded.ainvoke(question(), config)
    assert not heard.tokens
    assert not own.tokens
    assert heard.ends == own.ends - 1 == 10  # they hear of the samples all the same
    chat = SmoothGuardChatModel(inner=inner, config=CONFIG, embedder=Judge(), benign_scorer=neutral)
    chat.invoke(question(), config)
    await chat.ainvoke(question(), config)
    assert heard.tokens == ["It is all WINNER over "] * 2
    assert heard.ends == 12
    agent = guarded_agent(Judge(), [], inner)
    agent.invoke(ASKED, config)
    await agent.ainvoke(ASKED, config)
    assert len(heard.tokens) == 2


@pytest.mark.parametrize("mode", ["messages", "values"])
def test_the_trap_springs_without_a_guard(mode: str) -> None:
    unguarded, trap = create_agent(model()), Trap(Judge())
    with pytest.raises(AssertionError):  # before there is a vote
        trap.drain(unguarded.stream(ASKED, stream_mode=mode))
    with pytest.raises(AssertionError):  # the second answer is a losing one
        trap.drain(unguarded.stream(ASKED, stream_mode=mode))
