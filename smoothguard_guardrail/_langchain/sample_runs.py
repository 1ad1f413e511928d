"""The runs that samples are: children of the guard's run, out of sight of whoever streams it to a user."""

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
from langchain_core.callbacks.manager import BaseRunManager, ahandle_event, handle_event
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, set_config_context
from langchain_core.tracers._streaming import _StreamingCallbackHandler, _V2StreamingCallbackHandler
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langchain_core.tracers.context import _configure_hooks, tracing_v2_callback_var

SAMPLE_TAG = "smoothguard:sample"
SAMPLE_EVENT = "smoothguard.sample"

T = TypeVar("T")

ParentRun = BaseRunManager | BaseCallbackManager


class SampleRuns:
    """Gives every sample its callbacks, and tells the guard's run when one is done.

    Args:
        parent: The host's run manager, or a callback manager whose parent run is the host's; None: there is no run.
        config: The configuration that samples inherit.
        traced: Whether samples are child runs; otherwise no callback sees them, wherever it was registered.
    """

    def __init__(self, parent: ParentRun | None, config: RunnableConfig | None = None, *, traced: bool = True) -> None:
        self._run_id = _run_id(parent)
        self._parent = parent
        self._config = config or RunnableConfig()
        self._traced = traced
        self._handlers = without_tokens(parent.inheritable_handlers) if parent and traced else []

    @property
    def max_concurrency(self) -> int | None:
        """Calls in flight at once that the configuration allows."""
        return self._config.get("max_concurrency")

    def call(self, index: int, function: Callable[[RunnableConfig], T]) -> T:
        """Call a function with a sample's configuration, as an argument and as the context."""
        config = self._config_of(index)
        with self._tracing(), set_config_context(config) as context:
            return context.run(function, config)

    async def acall(self, index: int, function: Callable[[RunnableConfig], Coroutine[Any, Any, T]]) -> T:
        """Call an async function with a sample's configuration, as an argument and as the context."""
        config = self._config_of(index)
        with self._tracing(), set_config_context(config) as context:
            return await asyncio.create_task(function(config), context=context)

    def _config_of(self, index: int) -> RunnableConfig:
        # An empty manager where there are no callbacks: LangChain merges those of the context into None, and into
        # what a model is bound to.
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
        """Keep from untraced samples what traces without being a callback of theirs.

        LangSmith traces by the environment, and context managers such as `get_usage_metadata_callback` by context.
        """
        if self._traced:
            yield
            return
        from langsmith import tracing_context

        variables: list[Any] = [tracing_v2_callback_var, *(hook[0] for hook in _configure_hooks)]
        with tracing_context(enabled=False):
            tokens = [variable.set(None) for variable in variables]
            try:
                yield
            finally:
                for variable, token in zip(variables, tokens, strict=True):
                    variable.reset(token)

    def report(self, index: int, outcome: object) -> None:
        """Tell the guard's run that a sample is done: `smoothguard.sample`, without any text."""
        if self._parent and self._run_id:
            handle_event(self._parent.handlers, *_EVENT, _progress(index, outcome), **_context(self._parent))

    async def areport(self, index: int, outcome: object) -> None:
        """Tell the guard's run that a sample is done; see `report`."""
        if self._parent and self._run_id:
            await ahandle_event(self._parent.handlers, *_EVENT, _progress(index, outcome), **_context(self._parent))


_EVENT = ("on_custom_event", "ignore_custom_event", SAMPLE_EVENT)


def _run_id(parent: ParentRun | None) -> UUID | None:
    if isinstance(parent, BaseRunManager):
        return parent.run_id
    return parent.parent_run_id if parent else None


def _context(parent: ParentRun) -> dict[str, Any]:
    return {"run_id": _run_id(parent), "tags": parent.tags, "metadata": parent.metadata}


def _progress(index: int, outcome: object) -> dict[str, Any]:
    return {"index": index, "error": type(outcome).__name__ if isinstance(outcome, Exception) else None}


def without_tokens(handlers: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    """Return the handlers that may see a sample: none that streams to a user, and none with an ear for tokens.

    Tracers keep theirs. Of any other handler that reads tokens, as one that prints them, this returns a twin that
    shares its state and is deaf to them.
    """
    streaming = (_StreamingCallbackHandler, _V2StreamingCallbackHandler)
    kept = [handler for handler in handlers if not isinstance(handler, streaming)]
    return [_deaf(handler) if _reads_tokens(handler) else handler for handler in kept]


def _reads_tokens(handler: BaseCallbackHandler) -> bool:
    if isinstance(handler, BaseTracer | AsyncBaseTracer):
        return False
    base = AsyncCallbackHandler if isinstance(handler, AsyncCallbackHandler) else LLMManagerMixin
    return any(getattr(type(handler), name) is not getattr(base, name) for name in _TOKEN_METHODS)


def _deaf(handler: BaseCallbackHandler) -> BaseCallbackHandler:
    twin, kind = copy.copy(handler), cast("Any", type(handler))
    object.__setattr__(twin, "__class__", _deaf_kind(kind))
    object.__setattr__(twin, "__dict__", handler.__dict__)
    return twin


@lru_cache(maxsize=64)
def _deaf_kind(kind: Any) -> Any:
    return type(kind.__name__, (kind,), dict.fromkeys(_TOKEN_METHODS, _ignore))


_TOKEN_METHODS = ("on_llm_new_token", "on_stream_event")


def _ignore(*_: Any, **__: Any) -> None:
    """Hear nothing."""
