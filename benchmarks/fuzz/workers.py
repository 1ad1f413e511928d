"""Processes that check cases, so that a crash or a hang costs one case."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import torch

from benchmarks.fuzz.check import Limits, Outcome, check, first_bytes, make_case, peak_memory, reset_peak


def work(connection: Connection, seed: int, limits: Limits) -> None:
    """Check the cases whose keys arrive, in a process of its own."""
    torch.set_num_threads(1)
    reset_peak()
    resident = peak_memory()
    while True:
        key = connection.recv()
        made, data = make_case(key, seed)
        connection.send((made, first_bytes(data), len(data)))
        connection.send(check(key, (made, data), limits, resident=resident))


class Worker:
    """A process that checks one case after another, and is replaced when it dies or hangs."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self._seed, self._limits = seed, limits
        self._process: multiprocessing.process.BaseProcess | None = None

    def check(self, key: str) -> Outcome:
        """Check one case; the death of the process, or too long a silence, is its failure."""
        connection, process = self.started()
        start = time.perf_counter()
        made, head, size = "lost while it was made", "", 0
        try:
            connection.send(key)
            made, head, size = connection.recv()
            if connection.poll(min(3 * self._limits.seconds, 3_600)):
                outcome: Outcome = connection.recv()
                return outcome
            failure = "hangs"
        except (EOFError, ConnectionError):
            process.join()
            failure = f"crashes with exit code {process.exitcode}"
        seconds = time.perf_counter() - start
        self.close()
        return Outcome(key=key, made=made, head=head, size=size, ended="lost", failures=(failure,), seconds=seconds)

    def started(self) -> tuple[Connection, multiprocessing.process.BaseProcess]:
        """Return the pipe and the process, started if there is none."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, there = context.Pipe()
            self._process = context.Process(target=work, args=(there, self._seed, self._limits), daemon=True)
            self._process.start()
            there.close()
            self._connection.send("image/0")  # imports, and the first use of everything
            self._connection.recv()
            self._connection.recv()
        return self._connection, self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def run(keys: Sequence[str], *, seed: int, limits: Limits, workers: int = 1) -> list[Outcome]:
    """Check the cases, shared out among the workers."""

    def drive(first: int) -> list[Outcome]:
        worker, outcomes = Worker(seed, limits), []
        for done, key in enumerate(keys[first::workers], 1):
            outcomes.append(worker.check(key))
            if done % 1_000 == 0:
                print(f"worker {first}: {done:,} cases", file=sys.stderr, flush=True)
        worker.close()
        return outcomes

    with ThreadPoolExecutor(workers) as pool:
        return [outcome for share in pool.map(drive, range(workers)) for outcome in share]
