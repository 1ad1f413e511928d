"""Puts a guard around the chat models inside of what a model made of itself, as `bind_tools` and its kin do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence


def rewired(runnable: Any, guarded: Callable[[BaseChatModel], Runnable[Any, Any]]) -> Any:
    """Return a runnable with every chat model in it replaced; the runnable itself if there is none in sight.

    Looks into bindings, sequences and parallels.

    Args:
        runnable: What a model made of itself.
        guarded: Returns what takes a model's place.

    Example:
        >>> from langchain_core.output_parsers import StrOutputParser
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> chain = ScriptedChatModel(script=["Hi."]).bind(seed=1) | StrOutputParser()
        >>> rewired(chain, lambda model: ScriptedChatModel(script=["Hello."])).invoke("")
        'Hello.'
    """
    if isinstance(runnable, BaseChatModel):
        return guarded(runnable)
    if isinstance(runnable, RunnableBinding):
        bound = rewired(runnable.bound, guarded)
        return runnable if bound is runnable.bound else runnable.model_copy(update={"bound": bound})
    if isinstance(runnable, RunnableSequence):
        steps = [rewired(step, guarded) for step in runnable.steps]
        changed = any(new is not old for new, old in zip(steps, runnable.steps, strict=True))
        return RunnableSequence(*steps, name=runnable.name) if changed else runnable
    if isinstance(runnable, RunnableParallel):
        branches = {name: rewired(step, guarded) for name, step in runnable.steps__.items()}
        changed = any(branches[name] is not step for name, step in runnable.steps__.items())
        return RunnableParallel(branches) if changed else runnable
    return runnable
