"""Runs the work of an evaluation in threads or in processes; see `ray` for Ray clusters."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
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
        pool = ThreadPoolExecutor(self.num_workers)
        try:
            yield from _completed(pool, function, tasks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an interrupt, calls may still run for minutes


class InProcesses:
    """Maps in processes with one torch thread each: faster on a CPU than one process with many.

    The processes stay for the next call; each loads a model once. They end with this process, even if it is killed, and
    ignore Ctrl-C, which is for this process to handle.

    Args:
        num_workers: Processes; None: one per core.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        context = get_context("spawn")
        self._closed, self._open = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            num_workers or os.cpu_count(), mp_context=context, initializer=_begin_worker, initargs=(self._closed,)
        )

    def __call__(self, function: Callable[[T], R], tasks: Sequence[T], /) -> Iterator[tuple[int, R]]:
        """Yield every task's index and result."""
        yield from _completed(self._pool, function, tasks)

    def close(self) -> None:
        """End the processes at once, even in the middle of a task."""
        self._open.close()
        self._pool.shutdown(cancel_futures=True)
        self._closed.close()


def _completed(pool: Executor, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
    jobs: dict[Future[R], int] = {}
    try:
        with _interrupts_held():  # a new process inherits this
            jobs.update((pool.submit(function, task), index) for index, task in enumerate(tasks))
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    finally:
        for job in jobs:
            job.cancel()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back in this thread, where the system can: it comes at the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(closed: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(closed,), daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with_parent(closed: Connection) -> None:
    """Exit with the parent or when it closes the mapper: a worker would otherwise wait, with a model in memory."""
    parent = parent_process()
    wait([closed, *([] if parent is None else [parent.sentinel])])
    os._exit(1)
