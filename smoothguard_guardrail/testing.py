"""Fakes for tests: chat models that answer from a script and record what they were sent, and word-count embeddings."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

Reply = str | AIMessage | Exception
Script = Sequence[Reply] | Callable[[list[BaseMessage]], Reply]


class ScriptedChatModel(BaseChatModel):
    """A chat model that answers from a script.

    Args:
        script: Replies in the order of the calls, repeated from the start when they run out; or a function of the
            received messages. A reply that is an exception is raised.
        delay: Seconds that each call takes.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> ScriptedChatModel(script=["A cat.", "A dog."]).invoke("What is it?").content
        'A cat.'
    """

    script: Any
    delay: float = 0.0

    _received: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _tags: list[list[str]] = PrivateAttr(default_factory=list)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _calls: dict[str, int] = PrivateAttr(default_factory=lambda: {"in_flight": 0, "peak": 0})

    @property
    def received(self) -> list[list[BaseMessage]]:
        """The messages of every call, in order of arrival."""
        return self._received

    @property
    def received_tags(self) -> list[list[str]]:
        """The run tags of every call, in order of arrival."""
        return self._tags

    @property
    def peak_concurrency(self) -> int:
        """The largest number of calls in flight at once."""
        return self._calls["peak"]

    @property
    def _llm_type(self) -> str:
        return "smoothguard-scripted"

    def _start_call(self, messages: list[BaseMessage], tags: list[str]) -> Reply:
        with self._lock:
            index = len(self._received)
            self._received.append(messages)
            self._tags.append(tags)
            self._calls["in_flight"] += 1
            self._calls["peak"] = max(self._calls["peak"], self._calls["in_flight"])
        if not callable(self.script):
            reply: Reply = self.script[index % len(self.script)]
            return reply
        try:
            return self.script(messages)  # type: ignore[no-any-return]
        except Exception as error:
            return error

    def _finish_call(self, reply: Reply) -> ChatResult:
        with self._lock:
            self._calls["in_flight"] -= 1
        if isinstance(reply, Exception):
            raise reply
        message = reply if isinstance(reply, AIMessage) else AIMessage(content=reply)
        # A copy, since callbacks and callers change the message that they get.
        return ChatResult(generations=[ChatGeneration(message=message.model_copy(deep=True))])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._start_call(messages, run_manager.tags if run_manager else [])
        time.sleep(self.delay)
        return self._finish_call(reply)


class AsyncScriptedChatModel(ScriptedChatModel):
    """A `ScriptedChatModel` with a native async call, like providers' clients."""

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._start_call(messages, run_manager.tags if run_manager else [])
        await asyncio.sleep(self.delay)
        return self._finish_call(reply)


class WordEmbeddings(Embeddings):
    """Bag-of-words vectors: equal for texts with the same words, orthogonal for texts without a common word.

    Loads nothing and needs no network.

    Args:
        dimensions: Length of the vectors. Words that hash to the same index collide.

    Example:
        >>> same, other = WordEmbeddings().embed_documents(["A cat!", "a CAT"])
        >>> same == other
        True
    """

    def __init__(self, dimensions: int = 256) -> None:
        self.dimensions = dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text, of unit length, or zeros for a text without words."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        vector = [0.0] * self.dimensions
        for word in text.casefold().split():
            vector[crc32(word.strip(".,!?").encode()) % self.dimensions] += 1.0
        norm = sum(value * value for value in vector) ** 0.5
        return [value / norm for value in vector] if norm else vector
