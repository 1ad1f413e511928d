"""`smoothguard calibrate`: how much noise and how many samples your model and data need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothguard_guardrail.cli import loading, presets, rows_files
from smoothguard_guardrail.cli.failures import exit_codes, same_command
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.cli.command_settings import AttackOptions
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.attackers import AttackSettings
    from smoothguard_guardrail.evaluation.calibration import Calibration, Rows, Sweep

NOTHING_WITHIN_LIMITS = 4
_SNR_DB = (30.0, 20.0, 10.0, 5.0)  # noise on audio that is tried by default

_ATTACKED_HELP = "JSON lines of rows to attack whose images or audio are adversarial already."
_SETTINGS_HELP = "TOML file of rarely used settings: match, and the tables sweep, attack and guard."


def calibrate(
    data: Annotated[Path, typer.Option(dir_okay=False, help=rows_files.DATA_HELP)],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for results; answers stored there are reused.")],
    model: Annotated[str, typer.Option(help=loading.HELP)] = "reference",
    attacked: Annotated[Path | None, typer.Option(dir_okay=False, help=_ATTACKED_HELP)] = None,
    epsilon: Annotated[str | None, typer.Option(help=rows_files.EPSILON_HELP)] = None,
    max_utility_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Share of right answers that may be lost.")
    ] = 0.02,
    max_calls: Annotated[int, typer.Option(min=1, help="Model calls per request at most.")] = 8,
    sigma: Annotated[str | None, typer.Option(help="Noise on images to try, by default 0.05,0.1,0.2,0.3.")] = None,
    num_samples: Annotated[
        str | None, typer.Option(help="Values to try, by default 5,8; those above --max-calls are left out.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows of each kind to use, the first ones.")] = None,
    config: Annotated[Path | None, typer.Option(dir_okay=False, help=presets.CONFIG_HELP)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise and attacks.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes for a local model on the CPU, threads for a remote one.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(dir_okay=False, help=_SETTINGS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print calibration.json instead of the table.")] = False,
) -> None:
    """Find sigma and the number of samples for your model and data, against attacks that know the guard.

    Writes calibration.json, report.html and guard.json, which `ask` and `serve` read with --config, into --out.
    Ctrl-C keeps what was done and says how to go on.
    Exit codes: 2 bad input, 4 no candidate within the limits, 130 interrupted, 1 any other failure.

    Example: smoothguard calibrate --model hf:models/my-vlm --data rows.jsonl --out calibration
    """
    with exit_codes(go_on=same_command):
        loading.quiet_libraries()
        from smoothguard_guardrail.cli._settings import load_settings
        from smoothguard_guardrail.cli.calibrate import view
        from smoothguard_guardrail.cli.command_settings import CalibrationSettings
        from smoothguard_guardrail.config import SmoothGuardConfig
        from smoothguard_guardrail.evaluation import calibration
        from smoothguard_guardrail.evaluation.identity import identify

        rare, changes = load_settings(CalibrationSettings, settings, {})
        base = (SmoothGuardConfig() if config is None else SmoothGuardConfig.from_file(config)).override(**changes)
        limits = calibration.Limits(max_utility_loss=max_utility_loss, max_calls=max_calls)
        rows = rows_files.read(data, limit, attacked)
        sweep = _sweep(rare.sweep, base, rows, sigma=sigma, num_samples=num_samples)
        planned = _planned(rare.attack, rows, epsilon, seed)
        sweep.configs(base)  # refuses invalid settings before the model is loaded
        chat, identity = loading.load_model(model), identify(model)
        attack = _attack(chat, rows, planned)
        environment = rows_files.provenance(identity, seed, data=data, attacked=attacked) | {
            "attack": attack and attack.model_dump(include={"epsilon", "num_steps", "num_draws", "seed"})
        }
        with loading.mapper_for(chat, workers) as mapper:
            store = calibration.AnswerStore(
                loading.model_for(mapper, model, chat),
                identity=identity,
                path=out / "answers.jsonl",
                seed=seed,
                mapper=mapper,
            )
            bench = calibration.Bench(
                store,
                folder=out / "attacked",
                identity=identity,
                attack=attack,
                match=rare.match,
                progress=lambda text: typer.echo(text, err=True),
            )
            found = calibration.calibrate(
                bench, rows, sweep=sweep, base=base, limits=limits, environment=environment | {"match": rare.match}
            )
        _write(found, out, model)
        if store.num_failed:
            typer.echo(f"{store.num_failed} calls failed; the next run with this --out asks them again", err=True)
        typer.echo(found.model_dump_json(indent=2) if as_json else "\n".join(view.lines(found, out, model)))
    if found.chosen is None:
        raise typer.Exit(NOTHING_WITHIN_LIMITS)


def _planned(options: AttackOptions, rows: Rows, epsilon: str | None, seed: int) -> AttackSettings:
    """Return the settings of attacks made here, whose radius depends on the kind of media."""
    return options.settings(rows_files.radius(epsilon, rows_files.attacked_kinds(rows)[0]), seed=seed)


def _attack(model: BaseChatModel, rows: Rows, settings: AttackSettings) -> AttackSettings | None:
    """Return the attack on rows; None, with a message, if they cannot be attacked."""
    from smoothguard_guardrail.models import ChatTransformersMultimodal

    if not rows.attack:
        return None
    if not isinstance(model, ChatTransformersMultimodal):
        typer.echo("the rows to attack are not attacked: attacks need a local model, hf:PATH", err=True)
        return None
    rows_files.check_attackable(rows)
    return settings


def _sweep(
    table: dict[str, Any], base: SmoothGuardConfig, rows: Rows, *, sigma: str | None, num_samples: str | None
) -> Sweep:
    """Return the values to try: by default noise on the kind of media that the rows have."""
    from pydantic import ValidationError

    from smoothguard_guardrail.evaluation.calibration import Sweep

    values: dict[str, Any] = {"max_shift": (5,), "low_pass": (0.0,)}
    if rows.kinds == ("audio",):
        if sigma is not None:
            raise ConfigurationError("--sigma is noise on images, and the rows have audio: vary sweep.snr_db")
        image = base.image
        values = {"sigma": (base.sigma,), "max_shift": (image.max_shift,), "low_pass": (image.low_pass,)}
        values["snr_db"] = _SNR_DB
    values |= table
    if sigma is not None:
        values["sigma"] = _numbers("--sigma", sigma, float)
    if num_samples is not None:
        values["num_samples"] = _numbers("--num-samples", num_samples, int)
    try:
        return Sweep.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigurationError(f"sweep.{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def _numbers(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        return tuple(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        raise ConfigurationError(f"{name} expected numbers separated by commas, got {text!r}") from None


def _write(found: Calibration, out: Path, model: str) -> None:
    from smoothguard_guardrail._internal.files import write_atomic
    from smoothguard_guardrail.evaluation.calibration import calibration_report
    from smoothguard_guardrail.evaluation.report import write_report

    write_atomic(out / "calibration.json", f"{found.model_dump_json(indent=2)}\n")
    guard = out / "guard.json"
    if found.guard is None:
        guard.unlink(missing_ok=True)
    else:
        write_atomic(guard, f"{json.dumps(found.guard.model_dump(mode='json'), indent=2)}\n")
    write_report(calibration_report(found, title=f"Calibration of {model}"), out)
