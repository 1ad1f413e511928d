"""The `smoothguard` command."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from smoothguard_guardrail import __version__
from smoothguard_guardrail.cli.ask import ask
from smoothguard_guardrail.cli.attack import attack
from smoothguard_guardrail.cli.calibrate import calibrate
from smoothguard_guardrail.cli.demo import demo
from smoothguard_guardrail.cli.eval import eval_app
from smoothguard_guardrail.cli.failures import end_if_interrupted, let_interrupts_wait_for_imports
from smoothguard_guardrail.cli.inspect import inspect
from smoothguard_guardrail.cli.log import log
from smoothguard_guardrail.cli.serve import serve
from smoothguard_guardrail.cli.study import study

app: typer.Typer = typer.Typer(
    name="smoothguard",
    help="Guard multimodal chat models against adversarial images and audio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smoothguard {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


app.command()(demo)
app.command()(ask)
app.command()(attack)
app.command()(calibrate)
app.command()(inspect)
app.command()(log)
app.command()(serve)
app.command()(study)
app.add_typer(eval_app)


def main() -> None:
    """Run the command line."""
    let_interrupts_wait_for_imports()
    try:
        app()
    finally:
        end_if_interrupted()
        gc.freeze()  # collecting torch and transformers when Python ends takes more than a second


__all__ = ["app", "main"]
