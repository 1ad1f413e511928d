"""Reports every guarded call to callback handlers and tracers, whichever host it runs in.

A host wraps its guarded call in `reported` or `areported`. Handlers then receive `on_custom_event` with the name
`smoothguard.verdict` or `smoothguard.failure` and plain JSON without any text of an answer; tracers, which ignore
custom events, get the figures as metadata of the host's run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer

from smoothguard_guardrail import __version__
from smoothguard_guardrail._langchain import private_api
from smoothguard_guardrail.core.guard_settings import GuardSettings
from smoothguard_guardrail.errors import AbstainedError, MediaError, QuorumError, SmoothGuardError
from smoothguard_guardrail.result import GuardResult

VERDICT_EVENT = "smoothguard.verdict"
FAILURE_EVENT = "smoothguard.failure"

Manager = BaseRunManager | BaseCallbackManager
Outcome = GuardResult | Exception

_MAX_MESSAGE_CHARS = 300
_TRACED = (
    "verdict",
    "action",
    "reason",
    "withheld",
    "agreement",
    "suspicion",
    "suspicious",
    "clean_overruled",
    "num_calls",
    "sigma",
    "noise_space",
    "error",
    "version",
    "settings_hash",
)


def reported(
    manager: Manager | None, call: Callable[[], GuardResult], settings: GuardSettings | None = None
) -> GuardResult:
    """Make a guarded call and report its outcome to the run's handlers, once.

    Args:
        manager: The host's run manager, or a callback manager whose parent run is the host's; None: the callbacks
            of the current run.
        call: The guarded call.
        settings: Of the guard; reported with its failures too.

    Raises:
        Exception: Whatever the call raises.

    Example:
        >>> from langchain_core.callbacks import CallbackManager
        >>> from langchain_core.messages import AIMessage
        >>> answer = AIMessage("Hi.")
        >>> result = GuardResult(answer=answer, verdict="skipped", action="skipped", agreement=1.0, num_calls=1)
        >>> reported(CallbackManager([]), lambda: result).verdict
        'skipped'
    """
    start = time.perf_counter()
    try:
        result = call()
    except Exception as error:
        _report(manager, error, settings, time.perf_counter() - start)
        raise
    _report(manager, result, settings, time.perf_counter() - start)
    return result


async def areported(
    manager: Manager | None, call: Callable[[], Awaitable[GuardResult]], settings: GuardSettings | None = None
) -> GuardResult:
    """Make a guarded call and report its outcome; see `reported`."""
    start = time.perf_counter()
    try:
        result = await call()
    except Exception as error:
        await _areport(manager, error, settings, time.perf_counter() - start)
        raise
    await _areport(manager, result, settings, time.perf_counter() - start)
    return result


def event_of(outcome: Outcome, settings: GuardSettings | None = None, *, seconds: float) -> tuple[str, dict[str, Any]]:
    """Return the event's name and its data: plain JSON, without texts of answers.

    A raised abstention is a verdict, not a failure. Messages of exceptions that are not ours are left out, since
    providers and parsers quote requests and answers in theirs.
    """
    identity = {"id": str(uuid4())}
    if isinstance(outcome, AbstainedError):
        outcome = outcome.result
    if isinstance(outcome, GuardResult):
        record = outcome.to_metadata()
        for sample in record["samples"]:
            sample.pop("text", None)
        return VERDICT_EVENT, identity | record
    named: dict[str, Any] = {"version": __version__}
    if settings is not None:
        named |= {"settings_hash": settings.settings_hash, "components": settings.components}
    return FAILURE_EVENT, identity | named | _failure(outcome) | {"timings": {"total": seconds}}


def _failure(error: Exception) -> dict[str, Any]:
    record: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, QuorumError):
        record |= {
            "message": f"{error.successes} samples answered, {error.required} were required",
            "failures": [type(failure).__name__ for failure in error.failures],
            "num_calls": error.successes + len(error.failures),
        }
    elif isinstance(error, MediaError):
        record |= {"message": error.reason[:_MAX_MESSAGE_CHARS], "path": error.path}
    elif isinstance(error, SmoothGuardError) and error.__cause__ is None:  # otherwise it quotes its cause
        record["message"] = str(error)[:_MAX_MESSAGE_CHARS]
    return record


def _report(manager: Manager | None, outcome: Outcome, settings: GuardSettings | None, seconds: float) -> None:
    manager = manager or _current_manager()
    if manager.handlers and not _is_control_flow(outcome):
        name, data = event_of(outcome, settings, seconds=seconds)
        _annotate(manager, data)
        private_api.send_custom_event(manager.handlers, name, data, **_context(manager, outcome, settings))


async def _areport(manager: Manager | None, outcome: Outcome, settings: GuardSettings | None, seconds: float) -> None:
    manager = manager or _current_manager()
    if manager.handlers and not _is_control_flow(outcome):
        name, data = event_of(outcome, settings, seconds=seconds)
        _annotate(manager, data)
        await private_api.asend_custom_event(manager.handlers, name, data, **_context(manager, outcome, settings))


def _current_manager() -> Manager:
    from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

    return get_callback_manager_for_config(ensure_config())


def _is_control_flow(outcome: Outcome) -> bool:
    """Whether an exception is one of LangGraph's interrupts, which are not failures."""
    langgraph = sys.modules.get("langgraph.errors")
    return langgraph is not None and isinstance(outcome, langgraph.GraphBubbleUp)


def _run_id(manager: Manager) -> UUID | None:
    return manager.run_id if isinstance(manager, BaseRunManager) else manager.parent_run_id


def _trace_id(manager: Manager) -> UUID | None:
    """Return the id of the run's trace in LangSmith; None where LangSmith does not trace it."""
    tracers = [handler for handler in manager.handlers if isinstance(handler, LangChainTracer)]
    runs = [private_api.traced_run(tracer, _run_id(manager)) for tracer in tracers]
    return next((run.trace_id for run in runs if run is not None), None)


def _context(manager: Manager, outcome: Outcome, settings: GuardSettings | None) -> dict[str, Any]:
    """Return what handlers get besides the data; `outcome` and `settings` are for handlers of this process only.

    They may hold texts, and names of hosts and folders.
    """
    return {
        "run_id": _run_id(manager) or uuid4(),
        "tags": manager.tags,
        "metadata": manager.metadata,
        "parent_run_id": manager.parent_run_id if isinstance(manager, BaseRunManager) else None,
        "outcome": outcome,
        "settings": settings.changed if settings else None,
        "trace_id": _trace_id(manager),
    }


def _annotate(manager: Manager, data: dict[str, Any]) -> None:
    """Add the figures to the metadata of the host's run in every tracer, LangSmith's included."""
    figures = {f"smoothguard_{name}": data[name] for name in _TRACED if name in data}
    for handler in manager.handlers:
        if isinstance(handler, BaseTracer | AsyncBaseTracer):
            run = private_api.traced_run(handler, _run_id(manager))
            if run is not None:
                # A new dict: the old one may be the user's own configuration.
                run.extra = {**(run.extra or {}), "metadata": {**run.metadata, **figures}}
