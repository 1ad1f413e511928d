"""Runs the work of an evaluation in threads or in processes; see `ray` for Ray clusters."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Mapper(Protocol):
    """Applies a function to tasks, many at once.

    Yields (index of the task, result) in order of completion, so that results can be stored at once. Exceptions of the
    function are raised here. For worker processes the function and the tasks must be picklable: a module's
    function, or a `functools.partial` of one.
    """

    def __call__(self, function: Callable[[Any], R], tasks: Sequence[Any], /) -> Iterator[tuple[int, R]]:
        """Yield every task's index and result."""
        ...


class InThreads:
    """Maps in threads of this process: for remote models, and for chat model objects.

    Args:
        num_workers: Tasks at once.
    """

    def __init__(self, num_workers: int = 4) -> None:
        self.num_workers = num_workers

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[tuple[int, R]]:
        """Yield every task's index and result."""
        with ThreadPoolExecutor(self.num_workers) as pool:
            yield from _completed(pool, function, tasks)


class InProcesses:
    """Maps in processes with one torch thread each: faster on a CPU than one process with many.

    The processes stay for the next call; each loads a model once. They end with this process, even if it is killed.

    Args:
        num_workers: Processes; None: one per core.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self._pool = ProcessPoolExecutor(
            num_workers or os.cpu_count(), mp_context=get_context("spawn"), initializer=_begin_worker
        )

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[tuple[int, R]]:
        """Yield every task's index and result."""
        yield from _completed(self._pool, function, tasks)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


def _completed(pool: Executor, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
    jobs = {pool.submit(function, task): index for index, task in enumerate(tasks)}
    try:
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    finally:
        for job in jobs:
            job.cancel()


def _begin_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """Exit with the parent: otherwise the workers of a killed one would wait forever, with a model in memory."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
