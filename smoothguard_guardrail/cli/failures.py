"""How a command ends early: with one line on stderr and an exit code, and when interrupted with how to go on."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from smoothguard_guardrail.errors import QuorumError, SmoothGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROVIDER_FAILED, BAD_INPUT, NO_QUORUM, INTERRUPTED = 1, 2, 3, 130
_MAX_CHARS = 400


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
