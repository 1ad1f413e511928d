"""Every private or semi-private name of LangChain that the package uses, and what holds where one is missing.

LangChain may rename these in any release. Nothing here is imported unconditionally: where a name is missing, samples
lose their handlers or an error says so, but no token of a sample reaches a user.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from smoothguard_guardrail.errors import ConfigurationError

_EVENT_GROUP = "ignore_custom_event"


def _find(module: str, name: str) -> Any:
    """Return a name of a module, or None where the installed version does not have it."""
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


_STREAMING_HANDLERS = [
    _find("langchain_core.tracers._streaming", "_StreamingCallbackHandler"),
    _find("langchain_core.tracers._streaming", "_V2StreamingCallbackHandler"),
]
_HANDLE_EVENT = _find("langchain_core.callbacks.manager", "handle_event")
_AHANDLE_EVENT = _find("langchain_core.callbacks.manager", "ahandle_event")
_TRACING_VARIABLE = _find("langchain_core.tracers.context", "tracing_v2_callback_var")
_CONFIGURE_HOOKS = _find("langchain_core.tracers.context", "_configure_hooks")


def without_streaming_handlers(handlers: Sequence[BaseCallbackHandler]) -> list[BaseCallbackHandler]:
    """Return the handlers that do not stream to a user; none at all where those that do cannot be recognised."""
    if None in _STREAMING_HANDLERS:
        return []
    return [handler for handler in handlers if not isinstance(handler, tuple(_STREAMING_HANDLERS))]


def context_callback_variables() -> list[ContextVar[Any]]:
    """Return the context variables through which callbacks reach runs that were not given any.

    Raises:
        ConfigurationError: If this version of langchain-core does not have them where they are expected.
    """
    if _TRACING_VARIABLE is None or _CONFIGURE_HOOKS is None:
        raise ConfigurationError(
            "trace_samples=False is not possible with this version of langchain-core, which keeps the callbacks of a"
            " context elsewhere: set trace_samples=True, or install a version that this package supports"
        )
    return [_TRACING_VARIABLE, *(hook[0] for hook in _CONFIGURE_HOOKS)]


def send_custom_event(handlers: Sequence[BaseCallbackHandler], name: str, data: Any, **context: Any) -> None:
    """Send a custom event to handlers; to none where LangChain's own dispatcher is missing."""
    if _HANDLE_EVENT is not None:
        _HANDLE_EVENT(handlers, "on_custom_event", _EVENT_GROUP, name, data, **context)


async def asend_custom_event(handlers: Sequence[BaseCallbackHandler], name: str, data: Any, **context: Any) -> None:
    """Send a custom event to handlers; see `send_custom_event`."""
    if _AHANDLE_EVENT is not None:
        await _AHANDLE_EVENT(handlers, "on_custom_event", _EVENT_GROUP, name, data, **context)


def traced_run(tracer: Any, run_id: UUID | None) -> Any:
    """Return a tracer's record of a run that is under way; None where there is none."""
    return getattr(tracer, "run_map", {}).get(str(run_id))


def serialized(model: BaseChatModel) -> dict[str, Any]:
    """Return what tracers are given as the description of a model."""
    return getattr(model, "_serialized", None) or {}


def identifying_params(model: BaseChatModel) -> dict[str, Any]:
    """Return the parameters that identify a model in caches and traces."""
    describe = getattr(model, "_dict_for_compat", None)
    return dict(describe()) if describe is not None else dict(model._identifying_params)


def blocks_event_loop(model: BaseChatModel) -> bool:
    """Return whether a chat model's async calls are its sync calls on the event loop's default executor."""
    kind = type(model)
    return kind._agenerate is BaseChatModel._agenerate and kind._astream is BaseChatModel._astream


def call_parameters(model: BaseChatModel) -> set[str]:
    """Return the names of the parameters that a chat model's calls and bindings take."""
    kind = type(model)
    methods = (kind._generate, kind._agenerate, kind.bind_tools, kind.bind)
    return {name for method in methods for name in inspect.signature(method).parameters}


def map_configurable_defaults(model: Runnable[Any, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return `init_chat_model`'s configurable model with other defaults for the models that it makes.

    Any other Runnable is returned unchanged.
    """
    if type(model).__name__ != "_ConfigurableModel" or not hasattr(model, "_default_config"):
        return model
    changed = object.__new__(type(model))  # not `copy`: its `__getattr__` answers before there are attributes
    changed.__dict__.update(model.__dict__, _default_config=change(dict(model._default_config)))
    return changed
