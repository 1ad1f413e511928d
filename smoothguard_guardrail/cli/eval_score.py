"""`smoothguard eval score`: the published figures of answers that others made."""

from __future__ import annotations

import typer

score = typer.Typer(
    name="score",
    help="Score answer files as each benchmark publishes it. Nothing is asked of any model, but for judges.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@score.callback()
def _score() -> None:
    """Score answer files as each benchmark publishes it. Nothing is asked of any model, but for judges."""
