"""The report of an evaluation: every arm's metrics with intervals, paired tests, and cases to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smoothguard_guardrail.evaluation.arms import Arm
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.record import ArmRecord, EvaluationRecord
from smoothguard_guardrail.evaluation.report.content import (
    Answers,
    Case,
    Cell,
    Curve,
    Point,
    Report,
    Section,
    Series,
    Table,
)
from smoothguard_guardrail.evaluation.statistics import Rate

MAX_CASES = 6
_MAX_SIDE = 336  # pixels of an image in the report
_IMAGE_NOISE, _AUDIO_NOISE = ("sigma", "noise_space", "image"), ("audio",)
"""The settings that say how attacked media are perturbed."""
_PAIRS_TEXT = (
    "McNemar's exact test of two arms on the same items looks only at items on which they differ. The p-value is that"
    " of one comparison: with many arms some are small by chance."
)
_CASES_TEXT = "The first items, in the benchmark's order, on which two arms differ; they are not a random sample."
_COSTS_NOTE = (
    "Calls are those of items that were answered. Verdicts are the guard's; `skipped`: the request had no media, so"
    " nothing was guarded; `abstained`: the samples disagreed, and the refusal that replaces their answer is scored"
    " like any answer."
)


def run_report(
    record: EvaluationRecord,
    arms: Sequence[Arm],
    answers: Mapping[str, Mapping[str, Answer]],
    *,
    sweep: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Return the report of an evaluation.

    Args:
        record: The evaluation's record.
        arms: The arms that were run, for questions and images.
        answers: Answers by arm name and item id.
        sweep: Values of the swept settings by arm name; a curve is drawn if a single number was swept.
    """
    sections = [
        Section(
            title="Arms",
            text=_arms_text(record),
            tables=(_overview(record), _costs(record)),
            curves=_curves(record, sweep or {}),
        ),
        Section(title="By category", tables=tuple(_by_category(arm) for arm in record.arms)),
        Section(title="Arms in pairs", text=(_PAIRS_TEXT,), tables=(_pairs(record),)),
    ]
    if cases := _cases(record, arms, answers):
        sections.append(Section(title="Items on which the arms differ", text=(_CASES_TEXT,), cases=cases))
    return Report(
        title=f"{record.benchmark} on {record.model.name}",
        summary=_summary(record, arms),
        sections=tuple(sections),
        environment=record.model_dump(mode="json", exclude={"arms": {"__all__": {"scores"}}, "pairs": True}),
    )


def _summary(record: EvaluationRecord, arms: Sequence[Arm]) -> tuple[str, ...]:
    lines = [
        f"{record.num_items} items of {record.benchmark}, asked in {len(record.arms)} arms of `{record.model.name}`."
        " Every arm asks the same model the same questions, with the same decoding.",
        "; ".join(_headline(arm) for arm in record.arms) + ".",
        *_gains(record),
    ]
    if record.attack is None:
        lines.append("Nothing was attacked: this shows what the guard costs, not what it withstands.")
    elif "pictures" in record.attack:
        lines.append("The attacked files were made elsewhere: whether their attacker knew the guard is not recorded.")
    elif not record.attack.get("through"):
        lines.append(
            "The attacker did not know the guard. An adaptive attacker, who averages gradients over its noise, does"
            " better: claim no robustness without that figure."
        )
    else:
        lines += _adaptive(record, record.attack["through"], arms)
    if failed := sum(arm.num_errors for arm in record.arms):
        lines.append(f"{failed} calls failed; their items do not count in any rate.")
    return tuple(lines)


def _adaptive(record: EvaluationRecord, through: Any, arms: Sequence[Arm]) -> list[str]:
    """Say what an adaptive attacker knew: one guard, not the bare model and not other guards."""
    lines = [
        "The attacker knew the guard, and averaged gradients over its noise. The bare model is shown the same files:"
        " an attack on only the bare model may do better there."
    ]
    has_audio = any(path.suffix == ".wav" for arm in arms if _is_attacked(arm.name) for path in _first_media(arm))
    settings = _AUDIO_NOISE if has_audio else _IMAGE_NOISE
    unknown = [
        f"`{arm.name}`"
        for arm in record.arms
        if _is_attacked(arm.name) and arm.config and any(arm.config.get(name) != through.get(name) for name in settings)
    ]
    if unknown:
        lines.append(
            f"The attacker did not know the perturbations of {', '.join(unknown)}: claim no robustness for these."
        )
    return lines


def _is_attacked(arm: str) -> bool:
    return arm.startswith("adversarial")


def _first_media(arm: Arm) -> list[Path]:
    return [item.media[0] for item in arm.items if item.media]


def _headline(arm: ArmRecord) -> str:
    name, value = next(iter(arm.scores.rows[-1].metrics.items()))
    return f"**{arm.name}**: {name} {_text(value)}, {arm.mean_calls:.1f} calls per item"


def _gains(record: EvaluationRecord) -> list[str]:
    """Say for how many items the guard changed the outcome, on clean and on attacked media."""
    outcome, _ = _outcome_names(record)
    wanted = {("clean", "guarded"), ("adversarial", "adversarial-guarded")}
    return [
        f"From `{pair.first}` to `{pair.second}`: {pair.test.only_second} items became {outcome} and"
        f" {pair.test.only_first} no longer were (p = {pair.test.p_value:.3g})."
        for pair in record.pairs
        if (pair.first, pair.second) in wanted
    ]


def arm_summary(arm: ArmRecord) -> str:
    """Return an arm's metrics over all items, and its calls per item, in one line."""
    metrics = arm.scores.rows[-1].metrics
    shown = [f"{name} {_text(value)}" for name, value in metrics.items()]
    return f"{'; '.join(shown)}; {arm.mean_calls:.1f} calls per item"


def _text(value: Rate | float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _arms_text(record: EvaluationRecord) -> tuple[str, ...]:
    notes = dict.fromkeys(f"{arm.name}: {note}" for arm in record.arms for note in arm.scores.notes)
    judge = (f"Judge: `{record.judge}`. It reads {_judge_input(record)}.",) if record.judge else ()
    return (*judge, *notes)


def _judge_input(record: EvaluationRecord) -> str:
    if record.benchmark == "llava-bench":
        return "the answer with question, context and reference"
    return "question and answer" if record.judge.endswith(":with question") else "only the answer"


def _overview(record: EvaluationRecord) -> Table:
    names = list(dict.fromkeys(name for arm in record.arms for name in arm.scores.rows[-1].metrics))
    rows: list[tuple[Cell, ...]] = []
    for arm in record.arms:
        metrics = arm.scores.rows[-1].metrics
        rows.append((arm.name, *(metrics.get(name) for name in names), arm.scores.num_unscored))
    return Table(title="All items", columns=("arm", *names, "unscored"), rows=tuple(rows))


def _costs(record: EvaluationRecord) -> Table:
    verdicts = list(dict.fromkeys(name for arm in record.arms for name in arm.verdicts))
    rows: list[tuple[Cell, ...]] = [
        (arm.name, round(arm.mean_calls, 2), arm.num_errors, *(arm.verdicts.get(name, 0) for name in verdicts))
        for arm in record.arms
    ]
    columns = ("arm", "calls per item", "failed calls", *verdicts)
    return Table(title="Cost and verdicts", columns=columns, rows=tuple(rows), note=_COSTS_NOTE if verdicts else "")


def _by_category(arm: ArmRecord) -> Table:
    names = list(dict.fromkeys(name for row in arm.scores.rows for name in row.metrics))
    rows: list[tuple[Cell, ...]] = [
        (row.group, row.num_items, *(row.metrics.get(name) for name in names)) for row in arm.scores.rows
    ]
    return Table(title=arm.name, columns=("group", "items", *names), rows=tuple(rows))


def _pairs(record: EvaluationRecord) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            pair.first,
            pair.second,
            pair.test.both,
            pair.test.only_first,
            pair.test.only_second,
            pair.test.neither,
            f"{pair.test.p_value:.3g}",
        )
        for pair in record.pairs
    ]
    columns = ("first", "second", "both", "only the first", "only the second", "neither", "p")
    outcome, _ = _outcome_names(record)
    return Table(title=f"Items with the outcome `{outcome}`", columns=columns, rows=tuple(rows))


def _curves(record: EvaluationRecord, sweep: Mapping[str, Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Draw the first metric of the swept arms, one line per kind of image, if a single number was swept."""
    settings = {setting for values in sweep.values() for setting in values}
    lines: dict[str, list[Point]] = {}
    metric = next(iter(record.arms[0].scores.rows[-1].metrics), "")
    for arm in record.arms:
        for setting, value in sweep.get(arm.name, {}).items():
            found = arm.scores.rows[-1].metrics.get(metric)
            if isinstance(value, int | float) and isinstance(found, Rate | float):
                # Up to the setting's name: the value may be written differently, such as 0 for 0.0.
                name = arm.name.partition(f"{setting}=")[0].strip(" ,")
                lines.setdefault(name, []).append(Point(x=float(value), y=found))
    if len(settings) != 1 or not any(len(points) > 1 for points in lines.values()):
        return ()
    series = tuple(Series(name=name, points=tuple(points)) for name, points in lines.items())
    (setting,) = settings
    return (Curve(title=f"{metric} by {setting}", x_label=setting, y_label=metric, series=series),)


def _cases(
    record: EvaluationRecord, arms: Sequence[Arm], answers: Mapping[str, Mapping[str, Answer]]
) -> tuple[Case, ...]:
    differing = []
    for item in arms[0].items:
        outcomes = [arm.scores.outcomes.get(item.id) for arm in record.arms]
        if len({outcome for outcome in outcomes if outcome is not None}) > 1:
            differing.append(item)
    return tuple(_case(item, record, arms, answers) for item in differing[:MAX_CASES])


def _case(
    item: Item, record: EvaluationRecord, arms: Sequence[Arm], answers: Mapping[str, Mapping[str, Answer]]
) -> Case:
    images: dict[str, str] = {}
    shown: set[Path] = set()
    for arm in arms:
        media = next((each.media for each in arm.items if each.id == item.id), ())
        if media and media[0] not in shown and (uri := _image_uri(media[0])):
            shown.add(media[0])
            images["original" if not images else f"as in {arm.name}"] = uri
    outcomes = {arm.name: arm.scores.outcomes.get(item.id) for arm in record.arms}
    return Case(
        title=item.id,
        question=item.question,
        images=images,
        answers=tuple(
            _answers(name, by_id[item.id], _verdict(record, outcomes[name]))
            for name, by_id in answers.items()
            if item.id in by_id
        ),
    )


def _verdict(record: EvaluationRecord, outcome: bool | None) -> str:
    if outcome is None:
        return "not judged"
    return _outcome_names(record)[0 if outcome else 1]


def _outcome_names(record: EvaluationRecord) -> tuple[str, str]:
    """Return the names of a true and of a false outcome."""
    if record.benchmark == "llava-bench":
        return "as good as the reference", "worse than the reference"
    return ("unsafe", "safe") if record.benchmark == "mm-safetybench" else ("right", "wrong")


def _answers(arm: str, answer: Answer, verdict: str) -> Answers:
    samples: Any = (answer.record or {}).get("samples") or []
    texts = tuple(str(sample.get("text", sample.get("error", ""))) for sample in samples)
    return Answers(arm=arm, answer=answer.error or answer.text, samples=texts, verdict=verdict)


def _image_uri(path: Path) -> str | None:
    """Return an image, shrunk for the report; None for audio and files that cannot be shown."""
    from PIL import Image, ImageOps

    from smoothguard_guardrail.evaluation.report.images import image_uri

    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return image_uri(image)
