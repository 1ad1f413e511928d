"""What a flow asks of its host, and the sync and the async driver that give it.

A flow is a generator that does no I/O. It yields `CallModel` when it needs answers and `Compute` when it has work that
would block an event loop, receives the outcome, and returns its result. Hosts supply only how to call the model. The
pattern is that of httpx's `_auth.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from smoothguard_guardrail._internal.pool import cpu_pool

Request = list[BaseMessage]
Outcome = AIMessage | Exception
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallModel:
    """The flow needs the model's answers to these requests, one outcome each, in order."""

    requests: Sequence[Request]
    first_index: int
    """Index of the first request's sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """The flow has blocking work; the outcome is what the function returns."""

    function: Callable[[], Any]
    waits: bool = False
    """Whether it may wait, for a network or for `SLOW_WORK`; otherwise it runs in the pool for CPU work."""


Effects = Generator[CallModel | Compute, Any, T]
"""A flow that returns a T."""


def drive(flow: Effects[T], call_model: Callable[[CallModel], Sequence[Outcome]]) -> T:
    """Run a flow to its end in this thread."""
    try:
        effect = next(flow)
        while True:
            try:
                outcome = call_model(effect) if isinstance(effect, CallModel) else effect.function()
            except BaseException as error:  # the flow decides what an error means, KeyboardInterrupt included
                effect = flow.throw(error)
            else:
                effect = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def adrive(flow: Effects[T], call_model: Callable[[CallModel], Awaitable[Sequence[Outcome]]]) -> T:
    """Run a flow to its end, its blocking work off the event loop."""
    try:
        effect = next(flow)
        while True:
            try:
                if isinstance(effect, CallModel):
                    outcome = await call_model(effect)
                elif effect.waits:
                    outcome = await asyncio.to_thread(effect.function)
                else:
                    run = partial(copy_context().run, effect.function)
                    outcome = await asyncio.get_running_loop().run_in_executor(cpu_pool(), run)
            except BaseException as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
