"""`smoothguard eval`: benchmarks, one module per sub-command."""

from __future__ import annotations

import typer

from smoothguard_guardrail.cli.eval.run import run
from smoothguard_guardrail.cli.eval.score import score

eval_app: typer.Typer = typer.Typer(
    name="eval",
    help="Run benchmarks, and score answers to them as published.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
eval_app.add_typer(score)
eval_app.command()(run)
