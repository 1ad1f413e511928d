"""The public fakes."""

from __future__ import annotations

import asyncio
import threading

import pytest
from langchain_core.messages import AIMessage

from smoothguard_guardrail.protocols import Embedder
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel, WordEmbeddings


@pytest.mark.parametrize("kind", [ScriptedChatModel, AsyncScriptedChatModel])
async def test_a_script_repeats_and_raises_its_exceptions(kind: type[ScriptedChatModel]) -> None:
    model = kind(script=["a", AIMessage("b"), ValueError("c")])
    assert [model.invoke("x").content, (await model.ainvoke("y")).content] == ["a", "b"]
    with pytest.raises(ValueError, match="c"):
        await model.ainvoke("z")
    assert model.invoke("x").content == "a"
    assert [messages[0].content for messages in model.received] == ["x", "y", "z", "x"]
    assert model.peak_concurrency == 1


def test_a_script_function_gets_the_messages_and_may_raise() -> None:
    def script(messages: list) -> str:
        if messages[0].content == "bad":
            raise KeyError("bad")
        return f"{messages[0].content}!"

    model = ScriptedChatModel(script=script)
    for _ in range(2):
        with pytest.raises(KeyError):
            model.invoke("bad")
    assert model.invoke("hey").content == "hey!"
    assert model.peak_concurrency == 1


def test_replies_are_copies() -> None:
    reply = AIMessage("a", response_metadata={"x": 1})
    model = ScriptedChatModel(script=[reply])
    model.invoke("x").response_metadata["x"] = 2
    assert model.invoke("x").response_metadata["x"] == 1


def test_peak_concurrency_counts_calls_in_flight() -> None:
    barrier = threading.Barrier(3, timeout=30)

    def script(messages: list) -> str:
        barrier.wait()
        return "a"

    model = ScriptedChatModel(script=script)
    model.batch(["x"] * 3, {"max_concurrency": 3})
    assert model.peak_concurrency == 3


async def test_async_calls_run_concurrently() -> None:
    model = AsyncScriptedChatModel(script=["a"], delay=0.01)
    await asyncio.gather(*(model.ainvoke("x") for _ in range(5)))
    assert model.peak_concurrency == 5


def test_run_tags_are_recorded() -> None:
    model = ScriptedChatModel(script=["a"])
    model.invoke("x", {"tags": ["t"]})
    assert model.received_tags == [["t"]]


def test_word_embeddings_compare_words_without_case_and_punctuation() -> None:
    embedder = WordEmbeddings()
    assert isinstance(embedder, Embedder)
    cat, zebra, empty = embedder.embed_documents(["A cat!", "zebra", ""])
    assert cat == embedder.embed_query("a CAT")
    assert sum(a * b for a, b in zip(cat, zebra, strict=True)) == 0
    assert not any(empty)
