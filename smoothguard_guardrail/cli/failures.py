"""How a command ends early: with one line on stderr and an exit code, and when interrupted with how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from smoothguard_guardrail.errors import QuorumError, SmoothGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PROVIDER_FAILED, BAD_INPUT, NO_QUORUM, INTERRUPTED = 1, 2, 3, 130
_MAX_CHARS = 400
_IMPORTING = "<frozen importlib._bootstrap>"
_SECONDS_BETWEEN_LOOKS = 0.05


class _Interrupts:
    """Whether a command with kept work was interrupted."""

    seen = False


@contextmanager
def exit_codes(*, go_on: Callable[[], str] | None = None) -> Iterator[None]:
    """Turn failures into exit codes: 2 for bad input, 3 for too few answers, 1 for any other error.

    Args:
        go_on: Called when the command is interrupted (Ctrl-C): returns the command that goes on with what was kept.
            The exit code is then 130. None: the interrupt is passed on.
    """
    try:
        yield
    except KeyboardInterrupt:
        if go_on is None:
            raise
        _Interrupts.seen = True
        typer.echo(f"\nsmoothguard: interrupted; what was done is kept. To go on:\n  {go_on()}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except QuorumError as error:
        raise _exit(error, NO_QUORUM) from error
    except SmoothGuardError as error:
        raise _exit(error, BAD_INPUT) from error
    except Exception as error:
        raise _exit(error, PROVIDER_FAILED) from error


def let_interrupts_wait_for_imports() -> None:
    """Let Ctrl-C wait until no import is under way: torch aborts the process if it is interrupted in one of its own."""
    if hasattr(signal, "pthread_kill") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    outer = frame
    while outer is not None:
        if outer.f_code.co_filename == _IMPORTING:
            later = threading.Timer(_SECONDS_BETWEEN_LOOKS, signal.pthread_kill, (threading.get_ident(), number))
            later.daemon = True
            later.start()
            return
        outer = outer.f_back
    signal.default_int_handler(number, frame)


def same_command(*options: str) -> str:
    """Return the command line of this process, with options that it lacks."""
    words = sys.argv[1:]
    return shlex.join(["smoothguard", *words, *(each for each in options if each not in words)])


def end_if_interrupted() -> None:
    """End the process at once if its command was interrupted: threads that wait for a model would keep it alive."""
    if _Interrupts.seen:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def printable(text: str) -> str:
    r"""Return a text with its control characters escaped: text from a file could otherwise control the terminal.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)


def _exit(error: Exception, code: int) -> typer.Exit:
    message = printable(" ".join(str(error).split())) or "no message"
    if not isinstance(error, SmoothGuardError):
        message = f"{type(error).__name__}: {message}"
    if len(message) > _MAX_CHARS:
        message = message[: _MAX_CHARS - 1] + "…"
    typer.echo(f"smoothguard: {message}", err=True)
    return typer.Exit(code)
