"""`smoothguard study`: what a guard costs and withstands on your model, attacked by many who know it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from smoothguard_guardrail.cli import loading, presets, rows_files
from smoothguard_guardrail.cli.failures import exit_codes, same_command
from smoothguard_guardrail.errors import ConfigurationError, InputError

Scale = Literal["smoke", "standard", "large"]
GRADIENTS: dict[Scale, int] = {"smoke": 32, "standard": 960, "large": 9_600}
"""Gradients on every item of the attackers that spend most."""
_SCALE_HELP = "Gradients per row of the strongest attackers: smoke 32, standard 960, large 9,600."
_MATCH_HELP = "A right answer is `equal` to the row's, or `contains` it."


def study(
    data: Annotated[Path, typer.Option(dir_okay=False, help=rows_files.DATA_HELP)],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the report; what is stored there is reused.")],
    model: Annotated[str, typer.Option(help="`reference` (shipped) or `hf:PATH` (a local folder).")] = "reference",
    epsilon: Annotated[str | None, typer.Option(help=rows_files.EPSILON_HELP)] = None,
    scale: Annotated[Scale, typer.Option(help=_SCALE_HELP)] = "standard",
    match: Annotated[Literal["equal", "contains"], typer.Option(help=_MATCH_HELP)] = "equal",
    preset: Annotated[presets.Preset | None, typer.Option(help=presets.HELP)] = None,
    config: Annotated[Path | None, typer.Option(dir_okay=False, help=presets.CONFIG_HELP)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each kind to use, the first ones.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and attacks.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes for a model on the CPU.")] = None,
) -> None:
    """Let attackers, most of whom know the guard, attack your model and data, and write what they reached.

    Writes study.json and report.html into --out. Ctrl-C keeps what was done and says how to go on.
    Exit codes: 2 bad input, 130 interrupted, 1 any other failure.

    Example: smoothguard study --model hf:models/my-vlm --data rows.jsonl --out study
    """
    with exit_codes(go_on=same_command):
        loading.quiet_libraries()
        from smoothguard_guardrail._internal.files import write_atomic
        from smoothguard_guardrail.evaluation.attackers import default_attackers
        from smoothguard_guardrail.evaluation.calibration import AnswerStore
        from smoothguard_guardrail.evaluation.guard_study import study_guard, study_report, study_summary
        from smoothguard_guardrail.evaluation.identity import identify
        from smoothguard_guardrail.evaluation.report import write_report
        from smoothguard_guardrail.models import ChatTransformersMultimodal

        rows = rows_files.read(data, limit)
        if missing := [kind for kind in ("harmless", "attack") if not getattr(rows, kind)]:
            raise InputError(
                f'{data} has no {missing[0]} rows: those with "answer" are harmless, with "target" to attack'
            )
        rows_files.check_attackable(rows)
        kind = rows_files.attacked_kinds(rows)[0]
        guard = presets.chosen_config(model, preset, config)
        radius = rows_files.radius(epsilon, kind)
        attackers = default_attackers(guard, epsilon=radius, kind=kind, num_gradients=GRADIENTS[scale], seed=seed)
        chat, identity = loading.load_model(model), identify(model)
        if not isinstance(chat, ChatTransformersMultimodal):
            raise ConfigurationError("attacks need the gradients of a local model: give `hf:PATH` or `reference`")
        with loading.mapper_for(chat, workers) as mapper:
            store = AnswerStore(
                loading.model_for(mapper, model, chat),
                identity=identity,
                path=out / "answers.jsonl",
                seed=seed,
                mapper=mapper,
            )
            found = study_guard(
                store,
                rows,
                guard,
                attackers,
                folder=out / "attacked",
                identity=identity,
                match=match,
                progress=lambda text: typer.echo(text, err=True),
            )
        environment = rows_files.provenance(identity, seed, data=data) | {
            "command": same_command(),
            "guard": guard.model_dump(mode="json"),
            "epsilon": radius,
        }
        write_atomic(out / "study.json", f"{found.model_dump_json(indent=2)}\n")
        page, _ = write_report(study_report(found, title=f"A study of {model}", environment=environment), out)
        typer.echo("\n".join(line.replace("**", "") for line in study_summary(found)))
        typer.echo(f"report: {page}")
