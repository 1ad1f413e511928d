"""`smoothguard eval run`: a benchmark on a model, bare and guarded, with and without an attack."""

from __future__ import annotations

import re
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli._numbers import parse_epsilon
from smoothguard_guardrail.cli.eval import data as eval_data
from smoothguard_guardrail.cli.failures import exit_codes, same_command
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from smoothguard_guardrail.cli.command_settings import AttackOptions
    from smoothguard_guardrail.cli.eval.plan import Plan
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.arms import Progress
    from smoothguard_guardrail.evaluation.attackers import AttackSettings
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.items import Answer, Item
    from smoothguard_guardrail.evaluation.mappers import Mapper
    from smoothguard_guardrail.evaluation.record import EvaluationRecord

_ARMS_HELP = (
    "`clean`, `noise` (one noisy copy, no vote), `guarded`, `paper`, and each on attacked media: `adversarial`, "
    "`adversarial-noise`, ... By default clean,noise,guarded, and with an attack adversarial,adversarial-guarded."
)
_SETTINGS_HELP = (
    "TOML file of rarely used settings: images, rule, variant, universal_image, suffix, and tables attack and guard."
)
_EPSILON_HELP = "Attack within this L-infinity radius: such as 16/255 for images, 0.005 for audio samples in [-1, 1]."
_JUDGE_HELP = "`refusal`, `classifier:PATH` (a guard model or text classifier), or `chat:` and a model's name."


def run(
    benchmark: Annotated[str, typer.Argument(help="pope, llava-bench, mm-safetybench or compa-order.")],
    data: Annotated[str, typer.Option(help=eval_data.HELP)],
    out: Annotated[Path, typer.Option(help="Folder for answers, record and report. A stopped run resumes in it.")],
    model: Annotated[str, typer.Option(help=loading.HELP)] = "reference",
    arms: Annotated[str | None, typer.Option(help=_ARMS_HELP)] = None,
    preset: Annotated[presets.Preset | None, typer.Option(help=presets.HELP)] = None,
    config: Annotated[Path | None, typer.Option(help=presets.CONFIG_HELP)] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="Vary a setting of the guarded arms: sigma=0.1,0.2, image.max_shift=3,5."),
    ] = None,
    attacked: Annotated[Path | None, typer.Option(help="Your own attacked files, at <item id>.png or .wav.")] = None,
    attack_epsilon: Annotated[str | None, typer.Option(help=_EPSILON_HELP)] = None,
    eot: Annotated[
        bool, typer.Option("--eot", help="The attacker knows the guard and averages over its noise.")
    ] = False,
    judge: Annotated[str | None, typer.Option(help=_JUDGE_HELP)] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="A split of pope, or scenario of mm-safetybench; may be repeated.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Accept incomplete files.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only this many items, drawn with the seed.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, or threads for a provider's model.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the noise, the attack and the draw of --limit.")] = 0,
    settings: Annotated[Path | None, typer.Option(help=_SETTINGS_HELP)] = None,
) -> None:
    """Ask a benchmark's questions in several arms, score each arm, compare them, and write a report.

    Writes answers/<arm>.jsonl, record.json and report.html. Ctrl-C keeps what was done and says how to go on.
    Exit codes: 2 bad input, 130 interrupted, 1 any other failure.

    Example: smoothguard eval run pope --model openai:gpt-4o --data pope --out runs/pope
    """
    with exit_codes(go_on=same_command):
        loading.quiet_libraries()
        from smoothguard_guardrail.cli._settings import load_settings
        from smoothguard_guardrail.cli.command_settings import EvalSettings
        from smoothguard_guardrail.cli.eval import plan as eval_plan
        from smoothguard_guardrail.evaluation import record as records

        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        rare, changes = load_settings(EvalSettings, settings, {})
        reading = eval_data.DataOptions(parts=part, partial=partial, **rare.model_dump(exclude={"attack"}))
        _check_attack(attacked, attack_epsilon, rare.attack)
        bench = eval_data.load_benchmark(benchmark, data, reading, image_folder=out / "images", limit=limit, seed=seed)
        guard = presets.chosen_config(model, preset, config, **changes)
        attack = _attack_settings(attack_epsilon, rare.attack, guard if eot else None, seed)
        deciding = eval_plan.cached_judge(eval_plan.make_judge(judge, benchmark), out / "kept" / "judgements.jsonl")
        mapper = eval_plan.make_mapper(model, workers=workers, ray=ray)
        try:
            files = _attacked_files(model, bench.items, attacked, attack, out, mapper)
            plan = eval_plan.plan_arms(arms, bench.items, guard, attacked=files, sweeps=sweep or ())
            identity, answers = _ask(model, plan, out, mapper, seed)
        finally:
            _close(mapper)
        scored, pairs = records.record_arms(bench, plan.arms, answers, judge=deciding)
        record = records.EvaluationRecord(
            benchmark=benchmark,
            num_items=len(bench.items),
            files=eval_data.fingerprints(benchmark, data, reading),
            model=identity,
            judge="" if deciding is None else deciding.identity,
            seed=seed,
            attack=_attack_record(attacked, attack),
            arms=scored,
            pairs=pairs,
            versions=records.versions(),
            device=records.device_name(),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
            command=shlex.join(sys.argv[1:]),
        )
        _write(out, record, plan, answers)
        _print(record, out)


def _check_attack(attacked: Path | None, epsilon: str | None, options: AttackOptions) -> None:
    if epsilon is None and options.model_dump(exclude_defaults=True):
        raise ConfigurationError("the settings in the table attack need --attack-epsilon")
    if epsilon is not None and attacked is not None:
        raise ConfigurationError("give --attacked or --attack-epsilon, not both")


def _attack_settings(
    epsilon: str | None, options: AttackOptions, through: SmoothGuardConfig | None, seed: int
) -> AttackSettings | None:
    if epsilon is None:
        if through is not None:
            raise ConfigurationError("--eot needs --attack-epsilon")
        return None
    return options.settings(parse_epsilon("--attack-epsilon", epsilon), through=through, seed=seed)


def _attacked_files(
    model: str,
    items: Sequence[Item],
    attacked: Path | None,
    settings: AttackSettings | None,
    out: Path,
    mapper: Mapper,
) -> Mapping[str, Path] | None:
    from smoothguard_guardrail.evaluation.attacked_media import attack_items, attacked_files

    if attacked is not None:
        return attacked_files(attacked, items)
    if settings is None:
        return None
    return attack_items(
        model, items, settings, folder=out / "attacked", mapper=mapper, progress=_progress_line("attacked files")
    )


def _ask(
    model: str, plan: Plan, out: Path, mapper: Mapper, seed: int
) -> tuple[ModelIdentity, dict[str, dict[str, Answer]]]:
    from smoothguard_guardrail.evaluation.arms import run_arms
    from smoothguard_guardrail.evaluation.identity import identify

    store = out / "kept"
    identity = identify(model, memory=store / "fingerprints.json")
    progress = _progress_line("answers")
    answers = run_arms(model, plan.arms, folder=store, mapper=mapper, seed=seed, progress=progress, identity=identity)
    return identity, answers


def _attack_record(attacked: Path | None, settings: AttackSettings | None) -> dict[str, Any] | None:
    if attacked is not None:
        return {"pictures": str(attacked)}
    return None if settings is None else settings.model_dump(mode="json")


def _write(out: Path, record: EvaluationRecord, plan: Plan, answers: Mapping[str, Mapping[str, Answer]]) -> None:
    from smoothguard_guardrail._internal.files import write_atomic
    from smoothguard_guardrail.evaluation.report import write_report
    from smoothguard_guardrail.evaluation.run_report import run_report

    folder = out / "answers"
    for name, by_id in answers.items():
        lines = "".join(answer.model_dump_json() + "\n" for answer in by_id.values())
        write_atomic(folder / f"{re.sub(r'[^A-Za-z0-9.=_-]+', '-', name)}.jsonl", lines)
    write_atomic(out / "record.json", record.model_dump_json(indent=2) + "\n")
    write_report(run_report(record, plan.arms, answers, sweep=plan.swept), out)


def _print(record: EvaluationRecord, out: Path) -> None:
    from smoothguard_guardrail.evaluation.run_report import arm_summary

    for arm in record.arms:
        typer.echo(f"{arm.name}: {arm_summary(arm)}")
    typer.echo(f"report: {out / 'report.html'}", err=True)


def _progress_line(what: str) -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        sys.stderr.write(f"\r{done} of {total} {what}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return show


def _close(mapper: Any) -> None:
    if hasattr(mapper, "close"):
        mapper.close()
