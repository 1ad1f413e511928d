"""What Ray's workers do in the tests: a module of its own, so that a worker imports no more than it needs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smoothguard_guardrail.errors import MediaLimitError

PATIENCE = 120  # seconds after which a test fails instead of hanging


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(str(path))
        time.sleep(0.02)


def act(folder: Path, task: str) -> str:
    """Do one of four tasks that end only if two workers run at once and results arrive one by one."""
    if task in ("first", "second"):
        (folder / task).touch()
        wait_for(folder / {"first": "second", "second": "first"}[task])
    elif task == "third":
        wait_for(folder / "two results are here")
    else:
        wait_for(folder / "three results are here")
        raise MediaLimitError("too many pixels", path="messages[0].content[1]")
    return task


def with_loads(function: Callable[[Any], Any], task: Any) -> tuple[Any, int, int]:
    """Return the result, and which process made it after how many times of loading the model."""
    from smoothguard_guardrail.evaluation import shared

    return function(task), os.getpid(), shared._load.cache_info().misses
