"""The `smoothguard` command."""

from __future__ import annotations

import typer

from smoothguard_guardrail.cli.ask import ask
from smoothguard_guardrail.cli.attack import attack
from smoothguard_guardrail.cli.calibrate import calibrate
from smoothguard_guardrail.cli.demo import demo
from smoothguard_guardrail.cli.eval import eval_app
from smoothguard_guardrail.cli.log import log
from smoothguard_guardrail.cli.serve import serve

app: typer.Typer = typer.Typer(
    name="smoothguard",
    help="Guard multimodal chat models against adversarial pictures and recordings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(ask)
app.command()(attack)
app.command()(calibrate)
app.command()(log)
app.command()(serve)
app.add_typer(eval_app)


def main() -> None:
    """Run the command line."""
    app()


__all__ = ["app", "main"]
