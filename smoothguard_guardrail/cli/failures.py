"""How a command fails: with one line on stderr and an exit code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from smoothguard_guardrail.errors import QuorumError, SmoothGuardError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDER_FAILED, BAD_INPUT, NO_QUORUM = 1, 2, 3
_MAX_CHARS = 400


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn failures into exit codes: 2 for bad input, 3 for too few answers, 1 for any other error."""
    try:
        yield
    except QuorumError as error:
        raise _exit(error, NO_QUORUM) from error
    except SmoothGuardError as error:
        raise _exit(error, BAD_INPUT) from error
    except Exception as error:
        raise _exit(error, PROVIDER_FAILED) from error


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
