"""Where lines go: a file that many threads and processes append to, or a handler or logger of `logging`."""

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
    """Takes lines."""

    def write(self, line: str, level: int) -> None:
        """Write one line, given without its end.

        Raises:
            Exception: If the line could not be written.
        """


class FileSink:
    """Appends to a file, each line in a single write under a lock that other processes honour too.

    The file is opened for every line, so it may be renamed or removed by logrotate at any time, and processes may
    fork. On Windows the lock holds between threads alone.

    Args:
        path: The file; created when it is not there.

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
        self.path = Path(path).absolute()
        os.close(self._open())

    def write(self, line: str, level: int) -> None:
        """Append one line, whole or not at all.

        Raises:
            OSError: If the line could not be written.
        """
        data = line.encode("utf-8", "replace") + b"\n"
        file = self._open()
        try:
            with _locked(file) as alone:
                before = os.fstat(file)
                written = os.write(file, data)
                if written < len(data):
                    if alone and stat.S_ISREG(before.st_mode):
                        os.ftruncate(file, before.st_size)
                    raise OSError(errno.ENOSPC, "only a part of the line could be written")
        finally:
            os.close(file)

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


class LoggingSink:
    """Hands lines to a handler or logger of `logging`, as messages without further formatting.

    A handler's failures are raised; a logger's handlers report their own, as `logging` has it.

    Args:
        target: The handler or logger.
    """

    def __init__(self, target: logging.Handler | logging.Logger) -> None:
        self._target = target

    def write(self, line: str, level: int) -> None:
        """Log one line if the target's level lets it.

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
    """Hold the file's lock; yields whether it was got: a process that hangs must not stop the others for long."""
    if sys.platform == "win32":
        with _threads:
            yield True
        return
    end = time.monotonic() + _LOCK_SECONDS
    while not (alone := _try_lock(file)) and time.monotonic() < end:
        time.sleep(0.005)
    yield alone  # closing the file gives the lock back


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _raising(handler: logging.Handler) -> Iterator[None]:
    """Let a handler's exception out, instead of a traceback on stderr for every line."""

    def reraise(record: logging.LogRecord) -> None:
        raise  # what the handler has just caught

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
