"""`SafetyLogHandler`: one JSON line per guarded call."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from smoothguard_guardrail._langchain.events import FAILURE_EVENT, VERDICT_EVENT
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, line_from_event
from smoothguard_guardrail.observability.safety_log.sinks import FileSink, LoggingSink, Sink

_logger = logging.getLogger(__name__)

_REMEMBERED_CALLS = 1024


class GuardObserver(BaseCallbackHandler):
    """A callback handler that sees every guarded call exactly once; subclasses implement `observe`.

    Exceptions of `observe` never reach the caller: the first one is logged as a warning, and so is the first
    success after it.

    Args:
        include_texts: Whether lines contain answers and exception messages that may quote them.
    """

    def __init__(self, *, include_texts: bool = False) -> None:
        self._include_texts = include_texts
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lost = 0
        self._lock = threading.Lock()

    def observe(self, line: Line) -> None:
        """Handle one guarded call; may be called from any thread."""
        raise NotImplementedError

    @property
    def lost(self) -> int:
        """Number of calls lost since `observe` last worked."""
        return self._lost

    def on_custom_event(
        self,
        name: str,
        data: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        parent_run_id: UUID | None = None,
        outcome: Any = None,
        settings: Any = None,
        trace_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Handle the guard's events and ignore all others."""
        if name not in (VERDICT_EVENT, FAILURE_EVENT):
            return
        try:
            if not self._is_new(data):
                return
            line = line_from_event(
                name,
                data,
                run_id=run_id,
                parent_run_id=parent_run_id,
                tags=tags,
                metadata=metadata,
                outcome=outcome,
                settings=settings,
                trace_id=trace_id,
                include_texts=self._include_texts,
            )
        except Exception as error:
            self._count_failure(error)
        else:
            self._deliver(line)

    def _deliver(self, line: Line) -> None:
        """Have a line observed, and count what fails."""
        try:
            self.observe(line)
        except Exception as error:
            self._count_failure(error)
        else:
            self._report_recovery()

    # LangChain renders every request, media included, for handlers that do not ignore model events.
    @property
    def ignore_llm(self) -> bool:
        """True: LLM events are ignored."""
        return True

    @property
    def ignore_chat_model(self) -> bool:
        """True: chat model events are ignored."""
        return True

    @property
    def ignore_chain(self) -> bool:
        """True: chain events are ignored."""
        return True

    @property
    def ignore_agent(self) -> bool:
        """True: agent and tool events are ignored."""
        return True

    @property
    def ignore_retriever(self) -> bool:
        """True: retriever events are ignored."""
        return True

    def _is_new(self, data: Mapping[str, Any]) -> bool:
        """Whether this call is new: LangChain may hold one handler twice in a run's callbacks."""
        identity = data.get("id")
        if identity is None:
            return True
        with self._lock:
            if identity in self._seen:
                return False
            self._seen[identity] = None
            if len(self._seen) > _REMEMBERED_CALLS:
                self._seen.popitem(last=False)
            return True

    def _count_failure(self, error: Exception) -> None:
        with self._lock:
            self._lost += 1
            first = self._lost == 1
        if first:
            _logger.warning(
                "%s: a guarded call could not be recorded (%s: %s); further calls are lost until this is fixed",
                type(self).__name__,
                type(error).__name__,
                error,
            )

    def _report_recovery(self) -> None:
        if not self._lost:
            return
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            _logger.warning("%s: recording works again; %d guarded calls were lost", type(self).__name__, lost)


class SafetyLogHandler(GuardObserver):
    """Writes one JSON line per guarded call: verdict, agreement, clusters, media hashes, timings, run.

    Works with every host, sync and async. Media are never written, texts only with `include_texts=True`. A call that
    the guard could not finish gets a line of another kind. A full disk or a closed file never breaks the guarded call.
    The format is `observability/safety_log/safety_log.schema.json`; `smoothguard log` reads it.

    Lines have the level `INFO`, `WARNING` if the guard abstained or overruled the clean copy, or `ERROR` if it failed.
    For rotation pass a handler of `logging.handlers`, or a path and use logrotate. If several processes write the same
    file, pass its path.

    Args:
        target: Path of a file to append to, which threads and processes may share; or a `logging` handler or _logger.
        include_texts: Whether lines contain the elected answer (with `record_samples=True` all answers) and exception
            messages that may quote answers.

    Raises:
        ConfigurationError: If the file cannot be opened for appending.

    Example:
        >>> import json, tempfile
        >>> from smoothguard_guardrail import SafetyLogHandler, SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> guard = SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     answer = guard.invoke("Hi!", {"callbacks": [SafetyLogHandler(file.name)]})
        ...     json.loads(file.read())["verdict"]
        'skipped'
    """

    def __init__(
        self, target: str | os.PathLike[str] | logging.Handler | logging.Logger, *, include_texts: bool = False
    ) -> None:
        super().__init__(include_texts=include_texts)
        self._sink = _sink(target)

    def observe(self, line: Line) -> None:
        """Write one line.

        Raises:
            Exception: If it could not be written.
        """
        self._sink.write(line.to_json(), _level(line))


def _sink(target: str | os.PathLike[str] | logging.Handler | logging.Logger) -> Sink:
    if isinstance(target, logging.Handler | logging.Logger):
        return LoggingSink(target)
    try:
        return FileSink(target)
    except OSError as error:
        raise ConfigurationError(f"the safety log must be a file that can be appended to: {error}") from error


def _level(line: Line) -> int:
    if isinstance(line, FailureLine):
        return logging.ERROR
    return logging.WARNING if line.verdict == "abstained" or line.clean_overruled else logging.INFO
