"""Where log lines go: a file shared by threads and processes, or a `logging` handler or logger."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

if sys.platform != "win32":
    import fcntl

LOGGER_NAME = "smoothguard.safety_log"

_LOCK_SECONDS = 1.0
_threads = threading.Lock()


class Sink(Protocol):
    """Writes log lines."""

    def write(self, line: str, level: int) -> None:
        """Write one line, given without its newline.

        Raises:
            Exception: If the line could not be written.
        """


class FileSink:
    """Appends to a file: each line in one write, under a lock that works across processes.

    The file is opened for every line, so logrotate may move or remove it at any time and processes may fork. On
    Windows the lock only works between threads.

    Args:
        path: The file; created if it does not exist.

    Raises:
        OSError: If the file cannot be opened for appending.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     FileSink(file.name).write("{}", level=20)
        ...     file.read().splitlines()
        [b'{}']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path).absolute()
        os.close(self._open())

    def write(self, line: str, level: int) -> None:
        """Append one line, whole or not at all.

        Raises:
            OSError: If the line could not be written.
        """
        data = line.encode("utf-8", "replace") + b"\n"
        file = self._open()
        try:
            with _locked(file) as is_locked:
                before = os.fstat(file)
                written = os.write(file, data)
                if written < len(data):
                    if is_locked and stat.S_ISREG(before.st_mode):
                        os.ftruncate(file, before.st_size)
                    raise OSError(errno.ENOSPC, "only part of the line could be written")
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


class LoggingSink:
    """Passes lines to a `logging` handler or logger as plain messages.

    Failures of a handler are raised; handlers of a logger report their own failures.

    Args:
        target: The handler or logger.
    """

    def __init__(self, target: logging.Handler | logging.Logger) -> None:
        self._target = target

    def write(self, line: str, level: int) -> None:
        """Log one line if the target's level allows it.

        Raises:
            Exception: If the handler failed.
        """
        name = self._target.name if isinstance(self._target, logging.Logger) else LOGGER_NAME
        record = logging.LogRecord(name, level, __file__, 0, line, None, None)
        if isinstance(self._target, logging.Logger):
            if self._target.isEnabledFor(level):
                self._target.handle(record)
        elif level >= self._target.level:
            with _raising(self._target):
                self._target.handle(record)


@contextmanager
def _locked(file: int) -> Iterator[bool]:
    """Hold the file's lock; yields whether it was acquired: a hanging process must not block the others for long."""
    if sys.platform == "win32":
        with _threads:
            yield True
        return
    end = time.monotonic() + _LOCK_SECONDS
    while not (is_locked := _try_lock(file)) and time.monotonic() < end:
        time.sleep(0.005)
    yield is_locked  # closing the file releases the lock


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _raising(handler: logging.Handler) -> Iterator[None]:
    """Raise a handler's exception instead of printing a traceback for every line."""

    def reraise(record: logging.LogRecord) -> None:
        raise  # the exception that the handler has just caught

    handler.acquire()
    own = vars(handler).get("handleError")
    vars(handler)["handleError"] = reraise
    try:
        yield
    finally:
        del vars(handler)["handleError"]
        if own is not None:
            vars(handler)["handleError"] = own
        handler.release()
