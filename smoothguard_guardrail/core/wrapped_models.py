"""Finds and replaces the chat models inside bindings, retries, fallbacks, sequences and what else wraps a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.configurable import RunnableConfigurableAlternatives
from pydantic import BaseModel

Visit = Callable[[Runnable[Any, Any]], Runnable[Any, Any]]


def map_runnables(runnable: Any, visit: Visit) -> Any:
    """Return a Runnable with every Runnable in it replaced, innermost first, or itself if nothing changes.

    It does not look into chat models; `map_parts` does.

    Args:
        runnable: A chat model, or anything that wraps some.
        visit: Returns the replacement of a Runnable, or the Runnable itself.

    Example:
        >>> from langchain_core.output_parsers import StrOutputParser
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> chain = ScriptedChatModel(script=["Hi."]).with_retry() | StrOutputParser()
        >>> hello = ScriptedChatModel(script=["Hello."])
        >>> map_runnables(chain, lambda each: hello if isinstance(each, ScriptedChatModel) else each).invoke("")
        'Hello.'
    """
    return visit(runnable if isinstance(runnable, BaseChatModel) else map_parts(runnable, visit))


def map_parts(runnable: Any, visit: Visit) -> Any:
    """Return a Runnable with the Runnables in its fields replaced; see `map_runnables`."""
    if not isinstance(runnable, BaseModel):
        return runnable
    mapped = {name: _map(value, visit) for name, value in runnable.__dict__.items()}
    if isinstance(runnable, RunnableConfigurableAlternatives):
        mapped["alternatives"] = {name: _map_made(each, visit) for name, each in runnable.alternatives.items()}
    changes = {name: value for name, value in mapped.items() if value is not runnable.__dict__[name]}
    return runnable.model_copy(update=changes) if changes else runnable


def find_models(runnable: Any) -> list[BaseChatModel]:
    """Return the chat models inside a Runnable, in order, and then those that functions in it call."""
    return [each for each in _parts(runnable) if isinstance(each, BaseChatModel)] + hidden_models(runnable)


def hidden_models(runnable: Any) -> list[BaseChatModel]:
    """Return the chat models that functions in a Runnable call, as far as LangChain can tell; no copy reaches them."""
    functions = [each for each in _parts(runnable) if isinstance(each, RunnableLambda)]
    return [model for function in functions for part in function.deps for model in find_models(part)]


def _parts(runnable: Any) -> list[Runnable[Any, Any]]:
    found: list[Runnable[Any, Any]] = []

    def keep(each: Runnable[Any, Any]) -> Runnable[Any, Any]:
        found.append(each)
        return each

    map_runnables(runnable, keep)
    return found


def _map(value: Any, visit: Visit) -> Any:
    if isinstance(value, Runnable):
        return map_runnables(value, visit)
    if isinstance(value, dict):
        mapped: Any = {name: _map(each, visit) for name, each in value.items()}
        return mapped if any(mapped[name] is not each for name, each in value.items()) else value
    if isinstance(value, list | tuple):
        mapped = type(value)(_map(each, visit) for each in value) if type(value) in (list, tuple) else value
        return mapped if any(new is not old for new, old in zip(mapped, value, strict=True)) else value
    return value


def _map_made(alternative: Any, visit: Visit) -> Any:
    """Map an alternative, or what the function makes that stands for one."""
    if isinstance(alternative, Runnable):
        return map_runnables(alternative, visit)
    return partial(_make_mapped, alternative, visit)


def _make_mapped(make: Callable[[], Any], visit: Visit) -> Any:
    return map_runnables(make(), visit)
