"""`LangSmithHandler`: verdict, agreement and suspicion as feedback on the guard's run in LangSmith."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, UUID, uuid5

from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import Line
from smoothguard_guardrail.observability.scores import scores_of

if TYPE_CHECKING:
    from langsmith import Client

_MAX_WAITING = 1000
_EXIT_SECONDS = 5.0
_PAUSES = (0.25, 0.5, 1.0, 2.0)
"""Seconds between looks for a project."""


class LangSmithHandler(GuardObserver):
    """Gives feedback on the guard's run in LangSmith: `smoothguard.verdict`, `.agreement`, and `.suspicion` if known.

    Feedback is sent by a thread of its own through LangSmith's client, so a call never waits for it, and never fails if
    the service is down. At most 1000 calls wait to be sent; those that do not fit, or whose feedback the service
    refuses, are counted as `lost`. Calls that LangSmith does not trace get no feedback.

    Args:
        client: LangSmith's client; None: the one that LangChain's tracer uses.
        project_name: The project that the runs are traced to; None: LangSmith's default.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> guard = SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))
        >>> guard.invoke("Hi!", {"callbacks": [LangSmithHandler()]}).content  # not traced: no feedback
        'Hello.'
    """

    def __init__(self, client: Client | None = None, *, project_name: str | None = None) -> None:
        super().__init__()
        self._client = client
        self._project_name = project_name
        self._project_id: UUID | None = None
        self._waiting: queue.Queue[Line] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None

    def observe(self, line: Line) -> None:
        """Send the feedback on one guarded call; waits for the service where its client must.

        Raises:
            langsmith.utils.LangSmithError: If the service refuses it.
        """
        from langsmith.run_trees import get_cached_client

        client = self._client or get_cached_client()
        for score in scores_of(line):
            client.create_feedback(
                run_id=line.run_id,
                key=score.name,
                score=score.value,
                value=score.label,
                comment=score.explanation,
                trace_id=line.trace_id,
                session_id=self._project(client),
                feedback_id=uuid5(NAMESPACE_OID, f"{line.id}:{score.name}"),
            )

    def flush(self, timeout: float = _EXIT_SECONDS) -> bool:
        """Wait until all feedback is handed to LangSmith's client, and return whether it was within `timeout` seconds.

        What the client itself still holds is sent by its own `flush()`.
        """
        end = time.monotonic() + timeout
        with self._waiting.all_tasks_done:
            while self._waiting.unfinished_tasks and time.monotonic() < end:
                self._waiting.all_tasks_done.wait(end - time.monotonic())
            return not self._waiting.unfinished_tasks

    def _deliver(self, line: Line) -> None:
        if line.trace_id is None:
            return
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._count_failure(RuntimeError(f"{_MAX_WAITING} calls are waiting for LangSmith"))
        else:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None:
                atexit.register(self.flush)
            if self._thread is None or not self._thread.is_alive():  # as after a fork
                self._thread = threading.Thread(target=self._work, name="smoothguard-langsmith", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            super()._deliver(self._waiting.get())
            self._waiting.task_done()

    def _project(self, client: Client) -> UUID:
        """Return the project's id, which feedback needs; a new project exists once its first run has arrived."""
        from langsmith.utils import LangSmithNotFoundError, get_tracer_project

        name = self._project_name or get_tracer_project()
        for pause in _PAUSES:
            if self._project_id is None:
                try:
                    self._project_id = client.read_project(project_name=name).id
                except LangSmithNotFoundError:
                    client.flush(timeout=_EXIT_SECONDS)
                    time.sleep(pause)
        return self._project_id or client.read_project(project_name=name).id
