"""`smoothguard inspect`: a page that shows what the guard does with a request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import InputError

_PRESET_HELP = f"{presets.HELP} If not given: `reference` for the model `reference`, `default` for any other."


def inspect(
    model: Annotated[str, typer.Option(help=loading.HELP)] = "reference",
    preset: Annotated[presets.Preset | None, typer.Option(help=_PRESET_HELP)] = None,
    config_file: Annotated[Path | None, typer.Option("--config", dir_okay=False, help=presets.CONFIG_HELP)] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: a free one.")] = 7860,
    safety_log: Annotated[
        list[Path] | None, typer.Option(help="A safety log to show in a tab; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the noise repeatable.")] = None,
) -> None:
    """Serve a page that shows the copies, the answers and the vote of a guarded question.

    It listens on this machine only and contacts nothing but the model. Ctrl-C ends it. Needs the extra `ui`,
    and `log` for --safety-log.

    Example: smoothguard inspect --model openai:gpt-4o --safety-log safety.jsonl
    """
    with exit_codes():
        loading.quiet_libraries()
        config = presets.chosen_config(model, preset, config_file, seed=seed)
        logs = _readable(safety_log or [])
        typer.echo("loading the page and the model", err=True)
        from smoothguard_guardrail.inspector.server import serve

        def announce(url: str) -> None:
            typer.echo(f"open {url} in a browser; Ctrl-C ends it")

        serve(loading.load_model(model), model, config, logs=logs, port=port, on_start=announce)


def _readable(logs: list[Path]) -> list[Path]:
    """Return safety logs that can be read and shown."""
    if logs:
        from smoothguard_guardrail.inspector.log_page import check_packages

        check_packages()
    for log in logs:
        try:
            log.open("rb").close()
        except OSError as error:
            raise InputError(str(error)) from error
    return logs
