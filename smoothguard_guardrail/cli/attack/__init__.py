"""`smoothguard attack`: an adversarial image or audio file for a local model, and the record of how it was made."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes, same_command
from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from smoothguard_guardrail.cli.attack.inputs import OutputPaths, Prompt
    from smoothguard_guardrail.cli.attack.run import Job
    from smoothguard_guardrail.evaluation.input_media import InputMedium

_MODEL_HELP = "`reference` (shipped) or `hf:PATH`, a local folder or hub id. An attack needs the model's gradient."
_TARGET_HELP = "The answer to bring about; untargeted the one to avoid, by default the model's own."
_EPSILON_HELP = "Radius: a number, `16/255` (images' default) or `none`; for audio samples in [-1, 1] 0.005 by default."
_STEPS_HELP = "Steps: 100 by default; of a universal attack 5000, of a square attack 1000 queries."
_UNIVERSAL_HELP = 'JSON lines of {"question": ..., "target": ...}: one image for all of them.'
_SETTINGS_HELP = "TOML file: settings of the attack, and in a table `guard` those of the guard. Options given here win."
_PRESET_HELP = f"The guard: {presets.HELP} With --eot, if not given: calibrated for `reference`, default for others."
_NOT_REPEATED = ("resume", "force", "seed")  # options that the recorded command leaves out, or adds itself


def attack(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The image, at its own size, or audio to attack.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="Result: .png, or .wav for audio.")],
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What is asked about it.")] = None,
    target: Annotated[str | None, typer.Option(help=_TARGET_HELP)] = None,
    universal: Annotated[Path | None, typer.Option(help=_UNIVERSAL_HELP)] = None,
    model: Annotated[str, typer.Option(help=_MODEL_HELP)] = "reference",
    settings: Annotated[Path | None, typer.Option(dir_okay=False, help=_SETTINGS_HELP)] = None,
    epsilon: Annotated[str | None, typer.Option(help=_EPSILON_HELP)] = None,
    norm: Annotated[Literal["linf", "l2"] | None, typer.Option(help="Norm of epsilon; linf by default.")] = None,
    num_steps: Annotated[int | None, typer.Option(min=1, help=_STEPS_HELP)] = None,
    eot: Annotated[bool | None, typer.Option("--eot/--no-eot", help="Attack through the guard's perturbation.")] = None,
    preset: Annotated[presets.Preset | None, typer.Option(help=_PRESET_HELP)] = None,
    config: Annotated[Path | None, typer.Option(help=f"The guard: {presets.CONFIG_HELP}")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeats an attack; drawn and recorded if not given.")] = None,
    device: Annotated[str, typer.Option(help="`auto` (cuda, else mps, else cpu) or a torch device.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of an earlier attack.")] = False,
) -> None:
    """Make an adversarial image or audio file for a local model.

    Writes the result without loss (--out), and next to it the record (.json) and the loss (.loss.png). If a guard is
    named (--preset, --config or a `guard` table), the record holds its answer too; with --eot the attack knows it.

    Attack only models that are yours to attack. Ctrl-C keeps what was done and says how to go on.
    Exit codes: 2 bad input, 3 too few answers, 130 interrupted, 1 any other failure.

    Example: smoothguard attack photo.png "What is this?" --model hf:models/my-vlm --target "A cat." --out attacked.png
    """
    with exit_codes(go_on=partial(same_command, "--resume")):
        loading.quiet_libraries()
        from smoothguard_guardrail.cli.attack.inputs import OutputPaths
        from smoothguard_guardrail.cli.attack.run import Job
        from smoothguard_guardrail.cli.attack.settings import read_settings
        from smoothguard_guardrail.evaluation.input_media import read_medium

        if model != "reference" and not model.startswith("hf:"):
            raise ConfigurationError(
                f"expected a local model, reference or hf:PATH, whose gradient an attack can use, got {model!r}; show"
                " other models the result with `smoothguard ask`"
            )
        medium = read_medium(source)
        paths = OutputPaths.next_to(out, medium.kind)
        paths.check_free([source, *filter(None, (universal, config, settings))], force=force)
        chosen, changes = read_settings(
            settings,
            medium.kind,
            method=universal and "universal",
            epsilon=epsilon,
            norm=norm,
            num_steps=num_steps,
            through_guard=eot,
            seed=seed,
        )
        chosen.build(medium.kind, None)  # refuses invalid settings before a model is loaded
        named = chosen.through_guard or preset or config or changes
        guard = presets.chosen_config(model, preset, config, **changes) if named else None
        prompts = _prompts(question, target, universal, method=chosen.method, targeted=chosen.targeted)
        chosen = chosen.model_copy(update={"seed": _seed(paths, chosen.seed, resume=resume, force=force)})
        job = Job(
            spec=model,
            source=source,
            prompts=prompts,
            settings=chosen,
            guard=guard,
            paths=paths,
            command=(*_command(context), "--seed", str(chosen.seed)),
        )
        _run(job, medium, device)


def _command(context: typer.Context) -> tuple[str, ...]:
    """Return the words of the command line, except options at their default and those that are not repeated."""
    arguments, options = [], []
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in _NOT_REPEATED or value is None or value == parameter.default:
            continue
        if parameter.param_type_name == "argument":
            arguments.append(str(value))
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            options += [parameter.opts[0], str(value)]
    return "smoothguard", str(context.info_name), *arguments, *options


def _prompts(
    question: str | None, target: str | None, universal: Path | None, *, method: str, targeted: bool
) -> tuple[Prompt, ...]:
    from smoothguard_guardrail.cli.attack.inputs import Prompt, read_prompts

    if universal is not None:
        if question is not None or target is not None:
            raise InputError("--universal reads questions and targets from its file: leave out QUESTION and --target")
        return read_prompts(universal)
    if method == "universal":
        raise InputError("method 'universal' needs --universal with a file of prompts")
    if not question:
        raise InputError("expected a QUESTION about the file")
    if not target and targeted:
        raise InputError("expected --target, the answer to bring about, or `targeted = false` in the --settings file")
    return (Prompt(question=question, target=target),)


def _seed(paths: OutputPaths, seed: int | None, *, resume: bool, force: bool) -> int:
    """Return the seed of this run: as given, that of the resumed attack, or drawn."""
    if resume:
        found = paths.seed_to_resume(seed)
        if found is not None:
            return found
        typer.echo("smoothguard: nothing to resume, starting from the beginning", err=True)
    else:
        paths.clear_unfinished(force=force)
    return secrets.randbits(31) if seed is None else seed


def _run(job: Job, medium: InputMedium, device: str) -> None:
    from smoothguard_guardrail._internal.files import write_atomic
    from smoothguard_guardrail.cli.attack import run
    from smoothguard_guardrail.cli.attack.view import print_record, progress_bar, save_plot
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.perturbations import resolve_device

    model = loading.load_model(job.spec, device=str(resolve_device(device)))
    assert isinstance(model, ChatTransformersMultimodal)  # noqa: S101 - every local name gives one
    try:
        with progress_bar() as progress:
            record = run.run(job, model, medium, progress)
        write_atomic(job.paths.record, record.model_dump_json(indent=2) + "\n")
    except KeyboardInterrupt:
        if job.checkpoint.exists():  # makes the result again
            job.paths.medium.unlink(missing_ok=True)
        raise
    job.checkpoint.unlink(missing_ok=True)
    print_record(record, [job.paths.medium, job.paths.record, *save_plot(job.paths.plot, record)])
