"""`smoothguard attack`: an adversarial picture or recording for a local model, and the record of how it was made."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from smoothguard_guardrail.cli.attack.inputs import OutputPaths, Prompt
    from smoothguard_guardrail.cli.attack.media import MediumKind
    from smoothguard_guardrail.cli.attack.run import Job
    from smoothguard_guardrail.config import SmoothGuardConfig

_MODEL_HELP = "`reference` (shipped) or `hf:PATH`, a local folder or hub id. An attack needs the model's gradient."
_TARGET_HELP = "The answer to bring about; with --untargeted the one to avoid, the model's own if not given."
_EPSILON_HELP = (
    "Radius: `16/255`, the default, or a float, or `none`; of values in [0, 1]. Of a recording's samples in [-1, 1]: "
    "0.005 by default."
)
_STEPS_HELP = "Gradient steps, 100 by default, with --universal 5000; with --square queries, 1000 by default."
_STEP_SIZE_HELP = "Length of a step, as epsilon; epsilon / 4 by default, with --universal 1/255."
_STEP_DECAY_HELP = "Shrink steps to a tenth at the end: with --eot the walk settles."
_MOMENTUM_HELP = "Share of the gradient that is kept; 0.5 by default, with --universal 0."
_UNIVERSAL_HELP = 'JSON lines of {"question": ..., "target": ...}: one picture for all of them.'
_PRESET_HELP = f"The guard: {presets.HELP} With --eot, if not given: calibrated for `reference`, default for others."
_FORGOTTEN = ("resume", "force", "seed")  # options that the command of the record does not repeat as they were given


def attack(
    context: typer.Context,
    out: Annotated[Path, typer.Option(dir_okay=False, help="Where to: .png, or .wav for a recording.")],
    model: Annotated[str, typer.Option(help=_MODEL_HELP)] = "reference",
    image: Annotated[Path | None, typer.Option(help="The picture to attack, at its own size.")] = None,
    audio: Annotated[Path | None, typer.Option(help="The recording to attack.")] = None,
    question: Annotated[str | None, typer.Option(help="What is asked about it.")] = None,
    target: Annotated[str | None, typer.Option(help=_TARGET_HELP)] = None,
    universal: Annotated[Path | None, typer.Option(help=_UNIVERSAL_HELP)] = None,
    epsilon: Annotated[str | None, typer.Option(help=_EPSILON_HELP)] = None,
    norm: Annotated[Literal["linf", "l2"], typer.Option(help="What epsilon is the radius in.")] = "linf",
    steps: Annotated[int | None, typer.Option(min=1, help=_STEPS_HELP)] = None,
    step_size: Annotated[str | None, typer.Option(help=_STEP_SIZE_HELP)] = None,
    momentum: Annotated[float | None, typer.Option(help=_MOMENTUM_HELP)] = None,
    step_decay: Annotated[bool, typer.Option("--step-decay", help=_STEP_DECAY_HELP)] = False,
    untargeted: Annotated[bool, typer.Option("--untargeted", help="Away from an answer, to any other.")] = False,
    random_start: Annotated[bool, typer.Option("--random-start", help="Start at a random point.")] = False,
    restarts: Annotated[int, typer.Option(min=1, help="Starts, of which the best is kept.")] = 1,
    eot: Annotated[bool, typer.Option("--eot", help="Attack through the guard's own perturbation.")] = False,
    draws: Annotated[int | None, typer.Option(min=1, help="With --eot: draws per step; 16 by default.")] = None,
    square: Annotated[bool, typer.Option("--square", help="Use losses alone, no gradient.")] = False,
    config: Annotated[Path | None, typer.Option(help=f"The guard: {presets.CONFIG_HELP}")] = None,
    preset: Annotated[presets.Preset | None, typer.Option(help=_PRESET_HELP)] = None,
    sigma: Annotated[float | None, typer.Option(help="The guard: sd of its noise.")] = None,
    noise_space: Annotated[Literal["pixel", "normalized"] | None, typer.Option(help="What sigma is the sd of.")] = None,
    low_pass: Annotated[float | None, typer.Option(help="The guard: sd of its low-pass, pixels.")] = None,
    max_shift: Annotated[int | None, typer.Option(help="The guard: largest shift, pixels.")] = None,
    num_samples: Annotated[int | None, typer.Option(help="The guard: model calls at most.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeats an attack; drawn and recorded if not given.")] = None,
    device: Annotated[str, typer.Option(help="`auto` (cuda, else mps, else cpu) or a torch device.")] = "auto",
    max_batch_size: Annotated[int, typer.Option(min=1, help="Most pictures in one forward pass.")] = 32,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files of an earlier attack.")] = False,
) -> None:
    """Make an adversarial picture or recording for a local model.

    Writes the medium without loss (--out), and beside it the record (.json) and the loss (.loss.png). Name a guard
    (--config, --preset or a knob) and the record tells its answer too; with --eot the attack knows that guard.

    Attack models that are yours to attack. Exit codes: 2 bad input, 3 too few answers, 1 any other failure.
    """
    with exit_codes():
        loading.quiet_libraries()
        from smoothguard_guardrail.cli.attack.inputs import OutputPaths, parse_epsilon, parse_number
        from smoothguard_guardrail.cli.attack.methods import DEFAULT_EPSILON, Choices, method_of

        _check_model(model)
        kind, source = _source(image, audio)
        paths = OutputPaths.beside(out, kind)
        paths.check_free([source, *filter(None, (universal, config))], force=force)
        knobs = {"sigma": sigma, "noise_space": noise_space, "low_pass": low_pass, "max_shift": max_shift}
        guard = _guard(model, config, preset, knobs | {"num_samples": num_samples}, wanted=eot)
        choices = Choices(
            method=method_of(universal=universal is not None, square=square),
            kind=kind,
            through_guard=eot,
            epsilon=parse_epsilon(epsilon or DEFAULT_EPSILON[kind]),
            norm=norm,
            targeted=not untargeted,
            num_steps=steps,
            step_size=None if step_size is None else parse_number("--step-size", step_size),
            momentum=momentum,
            step_decay=step_decay,
            random_start=random_start,
            num_restarts=restarts,
            num_draws=draws,
            max_batch_size=max_batch_size,
        )
        choices.check()
        prompts = _prompts(question, target, universal, untargeted=untargeted)
        chosen = _seed(paths, seed, resume=resume, force=force)
        from smoothguard_guardrail.cli.attack.run import Job

        job = Job(
            spec=model,
            source=source,
            prompts=prompts,
            choices=choices,
            seed=chosen,
            guard=guard,
            paths=paths,
            command=command(context, chosen),
            resumed=paths.checkpoint(chosen).exists(),
        )
        _carry_out(job, device)


def command(context: typer.Context, seed: int) -> tuple[str, ...]:
    """Return the command line that repeats this call with this seed, options at their default left out."""
    words = ["smoothguard", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in _FORGOTTEN or value is None or value == parameter.default:
            continue
        words.append(parameter.opts[0])
        if value is not True:
            words.append(str(value))
    return (*words, "--seed", str(seed))


def _check_model(spec: str) -> None:
    if spec != "reference" and not spec.startswith("hf:"):
        raise ConfigurationError(
            f"an attack works on the weights of a local model, and {spec!r} is none: give reference or hf:PATH. What it"
            " finds can be shown to any model with `smoothguard ask`"
        )


def _source(image: Path | None, audio: Path | None) -> tuple[MediumKind, Path]:
    if image is not None and audio is None:
        return "image", image
    if audio is not None and image is None:
        return "audio", audio
    raise InputError("give one file to attack: --image or --audio")


def _prompts(
    question: str | None, target: str | None, universal: Path | None, *, untargeted: bool
) -> tuple[Prompt, ...]:
    from smoothguard_guardrail.cli.attack.inputs import Prompt, read_prompts

    if universal is not None:
        if question is not None or target is not None:
            raise InputError(
                "--universal takes its questions and targets from the file: leave --question, --target out"
            )
        return read_prompts(universal)
    if not question:
        raise InputError("say with --question what is asked about the file")
    if not target and not untargeted:
        raise InputError("say with --target what the model shall answer, or --untargeted")
    return (Prompt(question=question, target=target),)


def _guard(
    spec: str, file: Path | None, preset: presets.Preset | None, knobs: dict[str, Any], *, wanted: bool
) -> SmoothGuardConfig | None:
    """Return the guard that the options name; None: they name none."""
    if not wanted and all(value is None for value in (file, preset, *knobs.values())):
        return None
    return presets.chosen_config(spec, preset, file, **knobs)


def _seed(paths: OutputPaths, seed: int | None, *, resume: bool, force: bool) -> int:
    """Return the seed of this run: given, that of the attack that goes on, or drawn."""
    if resume:
        found = paths.seed_to_resume(seed)
        if found is not None:
            return found
        typer.echo("smoothguard: nothing to resume, starting anew", err=True)
    else:
        paths.clear_unfinished(force=force)
    return secrets.randbits(31) if seed is None else seed


def _carry_out(job: Job, device: str) -> None:
    from smoothguard_guardrail.cli.attack.media import read_medium
    from smoothguard_guardrail.cli.attack.run import run
    from smoothguard_guardrail.cli.attack.view import progress_bar, save_plot, tell
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.perturbations import resolve_device

    medium = read_medium(job.source, job.choices.kind)
    model = loading.load_model(job.spec, device=str(resolve_device(device)))
    assert isinstance(model, ChatTransformersMultimodal)  # noqa: S101 - of every local name
    with progress_bar() as progress:
        record = run(job, model, medium, progress)
    job.paths.record.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    tell(record, [job.paths.medium, job.paths.record, *save_plot(job.paths.plot, record)])
