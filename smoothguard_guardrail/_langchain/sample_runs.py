"""Isolates sample calls: each is a child run whose tokens never reach streaming callers."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
)
from langchain_core.callbacks.base import LLMManagerMixin
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, set_config_context
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer

from smoothguard_guardrail._langchain import private_api
from smoothguard_guardrail._langchain.uncached import llm_cache_beside_samples, mark_as_sample

SAMPLE_TAG = "smoothguard:sample"
SAMPLE_EVENT = "smoothguard.sample"

T = TypeVar("T")

ParentRun = BaseRunManager | BaseCallbackManager


class SampleRuns:
    """Gives every sample its callbacks, and notifies the guard's run when one is done.

    Args:
        parent: The host's run manager, or a callback manager whose parent run is the host's; None without a run.
        config: The configuration that samples inherit.
        traced: Whether samples are child runs; otherwise no callback sees them, wherever it is registered.
    """

    def __init__(self, parent: ParentRun | None, config: RunnableConfig | None = None, *, traced: bool = True) -> None:
        self._run_id = _run_id(parent)
        self._parent = parent
        self._config = config or RunnableConfig()
        self._traced = traced
        self._hidden_variables = [] if traced else private_api.context_callback_variables()
        self._handlers = without_tokens(parent.inheritable_handlers) if parent and traced else []

    @property
    def max_concurrency(self) -> int | None:
        """Calls in flight at once, as the configuration allows."""
        return self._config.get("max_concurrency")

    def call(self, index: int, function: Callable[[RunnableConfig], T]) -> T:
        """Call a function with a sample's configuration, passed and set as the context."""
        config = self._config_of(index)
        with self._tracing(), llm_cache_beside_samples(), set_config_context(config) as context:
            context.run(mark_as_sample)
            return context.run(function, config)

    async def acall(self, index: int, function: Callable[[RunnableConfig], Coroutine[Any, Any, T]]) -> T:
        """Call an async function with a sample's configuration; see `call`."""
        config = self._config_of(index)
        with self._tracing(), llm_cache_beside_samples(), set_config_context(config) as context:
            context.run(mark_as_sample)
            return await asyncio.create_task(function(config), context=context)

    def _config_of(self, index: int) -> RunnableConfig:
        # An empty manager instead of None, with which LangChain would use the callbacks of the context.
        callbacks = CallbackManager([])
        if self._parent and self._traced:
            callbacks = CallbackManager([], parent_run_id=self._run_id)
            callbacks.set_handlers(self._handlers)
            callbacks.add_tags(self._parent.inheritable_tags)
            callbacks.add_tags([f"{SAMPLE_TAG}:{index}"], inherit=False)
            callbacks.add_metadata(self._parent.inheritable_metadata)
        return patch_config(self._config, callbacks=callbacks)

    @contextmanager
    def _tracing(self) -> Iterator[None]:
        """Hide untraced samples from LangSmith, which traces by environment, and from callbacks set by context."""
        if self._traced:
            yield
            return
        from langsmith import tracing_context

        variables = self._hidden_variables
        with tracing_context(enabled=False):
            tokens = [variable.set(None) for variable in variables]
            try:
                yield
            finally:
                for variable, token in zip(variables, tokens, strict=True):
                    variable.reset(token)

    def report(self, index: int, outcome: object) -> None:
        """Send the event `smoothguard.sample`, without any text, to the guard's run."""
        if self._parent and self._run_id:
            private_api.send_custom_event(
                self._parent.handlers, SAMPLE_EVENT, _progress(index, outcome), **_context(self._parent)
            )

    async def areport(self, index: int, outcome: object) -> None:
        """Send the event `smoothguard.sample` to the guard's run; see `report`."""
        if self._parent and self._run_id:
            await private_api.asend_custom_event(
                self._parent.handlers, SAMPLE_EVENT, _progress(index, outcome), **_context(self._parent)
            )


def _run_id(parent: ParentRun | None) -> UUID | None:
    if isinstance(parent, BaseRunManager):
        return parent.run_id
    return parent.parent_run_id if parent else None


def _context(parent: ParentRun) -> dict[str, Any]:
    return {"run_id": _run_id(parent), "tags": parent.tags, "metadata": parent.metadata}


def _progress(index: int, outcome: object) -> dict[str, Any]:
    return {"index": index, "error": type(outcome).__name__ if isinstance(outcome, Exception) else None}


def without_tokens(handlers: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    """Return the handlers that may see a sample: none that streams to a user, and none that receives tokens.

    Tracers are unchanged. Any other handler that reads tokens, such as one that prints them, is replaced by a copy
    that shares its state and ignores tokens.
    """
    handlers = private_api.without_streaming_handlers(handlers)
    return [_ignoring_tokens(handler) if _reads_tokens(handler) else handler for handler in handlers]


def _reads_tokens(handler: BaseCallbackHandler) -> bool:
    if isinstance(handler, BaseTracer | AsyncBaseTracer):
        return False
    base = AsyncCallbackHandler if isinstance(handler, AsyncCallbackHandler) else LLMManagerMixin
    return any(getattr(type(handler), name) is not getattr(base, name) for name in _TOKEN_METHODS)


def _ignoring_tokens(handler: BaseCallbackHandler) -> BaseCallbackHandler:
    twin, kind = copy.copy(handler), cast("Any", type(handler))
    object.__setattr__(twin, "__class__", _kind_ignoring_tokens(kind))
    object.__setattr__(twin, "__dict__", handler.__dict__)
    return twin


@lru_cache(maxsize=64)
def _kind_ignoring_tokens(kind: Any) -> Any:
    return type(kind.__name__, (kind,), dict.fromkeys(_TOKEN_METHODS, _ignore))


_TOKEN_METHODS = ("on_llm_new_token", "on_stream_event")


def _ignore(*_: Any, **__: Any) -> None:
    """Do nothing."""
