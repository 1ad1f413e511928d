"""Work in a thread that says how far it has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """Nobody listens any more."""


def in_background(work: Callable[[Callable[[T], None]], None]) -> Iterator[T]:
    """Run work in a thread, and yield what it reports, as it comes.

    If the caller stops iterating, the next report raises `StoppedError` in the thread, which ends the work.

    Args:
        work: Called with a function that reports one value.

    Raises:
        Exception: Whatever the work raises.

    Example:
        >>> list(in_background(lambda report: [report(1), report(2)]))
        [1, 2]
    """
    found: SimpleQueue[tuple[T] | Exception | None] = SimpleQueue()
    stopped = threading.Event()

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

    threading.Thread(target=run, daemon=True).start()
    try:
        while (reported := found.get()) is not None:
            if isinstance(reported, Exception):
                raise reported
            yield reported[0]
    finally:
        stopped.set()
