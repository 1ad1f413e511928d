"""One pool of threads for the CPU work of all requests: as many as there are cores."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache
from threading import BoundedSemaphore
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_NUM_THREADS = os.cpu_count() or 1

SLOW_WORK = BoundedSemaphore(max(1, _NUM_THREADS // 2))
"""Held by work that may take seconds, such as drawing a PDF, which waits for it outside of the pool: so much of it at
once leaves cores to the requests that need little."""


@lru_cache(maxsize=1)
def cpu_pool() -> Executor:
    """Return the pool. Every thread keeps buffers of its own, so more threads would only cost memory."""
    return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="smoothguard-cpu")


os.register_at_fork(after_in_child=cpu_pool.cache_clear)  # threads do not survive a fork


def cpu_map(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to every item, in the pool and in this thread; a thread of the pool may call it too.

    An iterator of items goes on while the pool works on the last few.

    Example:
        >>> cpu_map(str, [1, 2])
        ['1', '2']
    """
    waiting: dict[int, T] = {}
    pending: deque[tuple[int, Future[R]]] = deque()
    results: list[R] = []

    def take(index: int) -> R:  # by index: a cancelled task stays in the queue, and would keep its item alive
        return function(waiting.pop(index))

    def finish() -> None:
        index, future = pending.popleft()
        # What no thread has begun is done here: waiting for it could mean waiting for oneself.
        results.append(take(index) if future.cancel() else future.result())

    for index, item in enumerate(items):
        waiting[index] = item
        pending.append((index, cpu_pool().submit(take, index)))
        if len(pending) >= _NUM_THREADS:
            finish()
    while pending:
        finish()
    return results
