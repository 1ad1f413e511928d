"""Replaces the chat models inside what `bind_tools` and similar methods return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence


def replace_models(runnable: Any, guarded: Callable[[BaseChatModel], Runnable[Any, Any]]) -> Any:
    """Return a runnable with every chat model in it replaced, or the runnable itself if none is found.

    Looks into bindings, sequences and parallels.

    Args:
        runnable: What `bind_tools` or `with_structured_output` returned.
        guarded: Returns the replacement of a model.

    Example:
        >>> from langchain_core.output_parsers import StrOutputParser
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> chain = ScriptedChatModel(script=["Hi."]).bind(seed=1) | StrOutputParser()
        >>> replace_models(chain, lambda model: ScriptedChatModel(script=["Hello."])).invoke("")
        'Hello.'
    """
    if isinstance(runnable, BaseChatModel):
        return guarded(runnable)
    if isinstance(runnable, RunnableBinding):
        bound = replace_models(runnable.bound, guarded)
        return runnable if bound is runnable.bound else runnable.model_copy(update={"bound": bound})
    if isinstance(runnable, RunnableSequence):
        steps = [replace_models(step, guarded) for step in runnable.steps]
        changed = any(new is not old for new, old in zip(steps, runnable.steps, strict=True))
        return RunnableSequence(*steps, name=runnable.name) if changed else runnable
    if isinstance(runnable, RunnableParallel):
        branches = {name: replace_models(step, guarded) for name, step in runnable.steps__.items()}
        changed = any(branches[name] is not step for name, step in runnable.steps__.items())
        return RunnableParallel(branches) if changed else runnable
    return runnable
