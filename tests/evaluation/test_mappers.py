"""Mappers give every result once, as it is done, and leave nothing behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation import InProcesses, InThreads

KILLED = """
import os, sys, time
from smoothguard_guardrail.evaluation import InProcesses

def work(task):
    print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    list(InProcesses(1)(work, [0]))
"""


@settings(deadline=None)
@given(st.lists(st.integers(0, 100)), st.integers(1, 5))
def test_threads_give_every_result_once(tasks: list[int], num_workers: int) -> None:
    found = list(InThreads(num_workers)(lambda task: task * task, tasks))
    assert sorted(index for index, _ in found) == list(range(len(tasks)))
    assert all(result == tasks[index] ** 2 for index, result in found)


def test_results_come_as_they_are_done() -> None:
    import threading

    first = threading.Event()

    def work(task: int) -> int:
        if task == 0:
            assert first.wait(60)
        return task

    results = InThreads(2)(work, [0, 1])
    assert next(results) == (1, 1)
    first.set()
    assert next(results) == (0, 0)


def fails(task: int) -> int:
    raise ConfigurationError(f"task {task}")


def test_what_is_raised_is_raised_here() -> None:
    with pytest.raises(ConfigurationError, match="task 3"):
        list(InThreads(1)(fails, [3, 4, 5]))


@pytest.fixture(scope="module")
def processes() -> Iterator[InProcesses]:
    mapper = InProcesses(1)
    yield mapper
    mapper.close()


@pytest.mark.slow
def test_processes_give_every_result_and_raise_what_is_raised(processes: InProcesses) -> None:
    assert sorted(processes(math.factorial, [3, 1, 4])) == [(0, 6), (1, 1), (2, 24)]
    with pytest.raises(ValueError, match="not defined for negative"):
        list(processes(math.factorial, [-1]))
    assert list(processes(math.factorial, [2])) == [(0, 2)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        if not is_alive(worker):
            break
        time.sleep(0.1)
    assert not is_alive(worker)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
