"""`smoothguard ask`: one guarded question about files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.cli.verdict_line import verdict_line
from smoothguard_guardrail.errors import InputError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import HumanMessage

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.result import GuardResult

_PRESET_HELP = f"{presets.HELP} If not given: `reference` for the model `reference`, `default` for any other."

_RESOLUTION_HELP = "Longest side in pixels at which noise is added, or `auto` or `legible`."


def ask(
    inputs: Annotated[
        list[str], typer.Argument(metavar="FILE... QUESTION", help="Images, audio files or PDFs, then the question.")
    ],
    model: Annotated[str, typer.Option(help=loading.HELP)] = "reference",
    preset: Annotated[presets.Preset | None, typer.Option(help=_PRESET_HELP)] = None,
    config_file: Annotated[Path | None, typer.Option("--config", dir_okay=False, help=presets.CONFIG_HELP)] = None,
    sigma: Annotated[float | None, typer.Option(help="Standard deviation of the noise.")] = None,
    num_samples: Annotated[int | None, typer.Option(help="Most model calls.")] = None,
    noise_space: Annotated[Literal["pixel", "normalized"] | None, typer.Option(help="Units of sigma.")] = None,
    max_shift: Annotated[int | None, typer.Option(help="Largest random shift of an image, in pixels.")] = None,
    resolution: Annotated[str | None, typer.Option(help=_RESOLUTION_HELP)] = None,
    min_agreement: Annotated[
        float | None, typer.Option(help="Share of the answers below which the guard abstains.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the noise repeatable.")] = None,
    save_copies: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write what the model saw and heard into this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and record as JSON.")] = False,
    unguarded: Annotated[bool, typer.Option("--unguarded", help="Ask the model once, without the guard.")] = False,
) -> None:
    """Ask a model about images or audio, through the guard.

    The answer goes to stdout, then the verdict to stderr. Exit codes: 2 bad input, 3 too few answers, 1 any other
    failure.

    Example: smoothguard ask photo.jpg "What is on the sign?" --model openai:gpt-4o --save-copies copies
    """
    with exit_codes():
        loading.quiet_libraries()
        message = _message(inputs)
        record: dict[str, Any]
        if unguarded:
            if save_copies is not None:
                raise InputError(
                    "expected --save-copies or --unguarded, not both: without the guard there are no copies"
                )
            record = _ask_unguarded(loading.load_with_progress(model), message)
        else:
            config = presets.chosen_config(
                model,
                preset,
                config_file,
                sigma=sigma,
                num_samples=num_samples,
                noise_space=noise_space,
                image={"max_shift": max_shift, "resolution": _resolution(resolution)},
                vote={"min_agreement": min_agreement},
                seed=seed,
                record_samples=as_json,
            )
            result = _ask_guarded(loading.load_with_progress(model), message, config, save_copies)
            record = {"answer": str(result.answer.text), "guarded": True, **result.to_metadata()}
        record["model"] = model
        typer.echo(json.dumps(record, ensure_ascii=False, indent=2) if as_json else record["answer"])
        if not (unguarded or as_json):
            typer.echo(verdict_line(result), err=True)


def _message(inputs: list[str]) -> HumanMessage:
    *files, question = inputs
    if not files:
        raise InputError("expected at least one file and then the question, got one argument")
    if os.path.isfile(question):  # Path.is_file raises for texts longer than file names can be
        raise InputError(f"expected the question as the last argument, got the file {question}")
    from smoothguard_guardrail.media.files import request_from_files

    return request_from_files([Path(file) for file in files], question)


def _resolution(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdecimal() else text


def _ask_guarded(
    model: BaseChatModel, message: HumanMessage, config: SmoothGuardConfig, save_copies: Path | None
) -> GuardResult:
    if save_copies is not None:
        from smoothguard_guardrail.cli.save_copies import guard_and_save

        return guard_and_save(model, message, config, save_copies)
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

    return SmoothGuardRunnable(model, config).guard([message])


def _ask_unguarded(model: BaseChatModel, message: HumanMessage) -> dict[str, Any]:
    answer = model.invoke([message])
    usage = {"usage": dict(answer.usage_metadata)} if answer.usage_metadata else {}
    return {"answer": str(answer.text), "guarded": False, "num_calls": 1, **usage}
