"""Work in a thread that says how far it has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_SECONDS_BETWEEN_LOOKS = 0.1


class StoppedError(Exception):
    """The work was told to end, or nobody listens any more."""


def in_background(work: Callable[[Callable[[T], None]], None], stop: threading.Event | None = None) -> Iterator[T]:
    """Run work in a thread, and yield what it reports, as it comes.

    Once `stop` is set, or the caller stops iterating, nothing more is yielded, and the next report raises
    `StoppedError` in the thread, which ends the work.

    Args:
        work: Called with a function that reports one value.
        stop: Set by anyone who wants the work to end; set at the end in any case.

    Raises:
        Exception: Whatever the work raises.

    Example:
        >>> list(in_background(lambda report: [report(1), report(2)]))
        [1, 2]
    """
    found: SimpleQueue[tuple[T] | Exception | None] = SimpleQueue()
    stopped = stop or threading.Event()

    def report(value: T) -> None:
        if stopped.is_set():
            raise StoppedError
        found.put((value,))

    def run() -> None:
        try:
            work(report)
        except StoppedError:
            pass
        except Exception as error:
            found.put(error)
        finally:
            found.put(None)

    def wait() -> tuple[T] | Exception | None:
        while not stopped.is_set():
            with suppress(Empty):
                return found.get(timeout=_SECONDS_BETWEEN_LOOKS)
        return None

    threading.Thread(target=run, daemon=True).start()
    try:
        while (reported := wait()) is not None:
            if isinstance(reported, Exception):
                raise reported
            yield reported[0]
    finally:
        stopped.set()
