"""An evaluation's record as a report: every arm's figures with intervals, paired tests, and cases to look at."""

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
_MAX_SIDE = 336  # pixels of a picture in the report
_NOISE = ("sigma", "noise_space", "low_pass", "max_shift", "resize_range", "resolution")


def run_report(
    record: EvaluationRecord,
    arms: Sequence[Arm],
    answers: Mapping[str, Mapping[str, Answer]],
    *,
    sweep: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Lay out an evaluation.

    Args:
        record: Its record.
        arms: As they were run, for questions and pictures.
        answers: By arm and item.
        sweep: By arm, the values of the knobs that were swept; a curve is drawn for a single number.
    """
    sections = [
        Section(
            title="Arms",
            text=_arms_text(record),
            tables=(_overview(record), _costs(record)),
            curves=_curves(record, sweep or {}),
        ),
        Section(title="By category", tables=tuple(_by_category(arm) for arm in record.arms)),
        Section(title="Arms in pairs", text=(_PAIRS,), tables=(_pairs(record),)),
    ]
    if cases := _cases(record, arms, answers):
        sections.append(Section(title="Items on which the arms differ", text=(_CASES,), cases=cases))
    return Report(
        title=f"{record.benchmark} on {record.model.name}",
        summary=_summary(record),
        sections=tuple(sections),
        environment=record.model_dump(mode="json", exclude={"arms": {"__all__": {"scores"}}, "pairs": True}),
    )


_PAIRS = (
    "McNemar's exact test of two arms on the same items looks only at items on which they differ. The p-value is that"
    " of one comparison: with many arms some are small by chance."
)
_CASES = "The first items in the benchmark's order on which two arms differ; they are no sample of anything."


def _summary(record: EvaluationRecord) -> tuple[str, ...]:
    lines = [
        f"{record.num_items} items of {record.benchmark}, asked in {len(record.arms)} arms of `{record.model.name}`."
        " Every arm asks the same questions of the same model, which decodes alike in each.",
        "; ".join(_headline(arm) for arm in record.arms) + ".",
        *_gains(record),
    ]
    if record.attack is None:
        lines.append("No picture was attacked: nothing here says what the guard withstands, only what it costs.")
    elif "pictures" in record.attack:
        lines.append(
            "The attacked pictures came from elsewhere: whether their attacker knew the guard is not known here."
        )
    elif not record.attack.get("through"):
        lines.append(
            "The attacker did not know the guard. An adaptive attacker, who averages gradients over its noise, does"
            " better: claim no robustness without that figure beside these."
        )
    else:
        lines += _adaptive(record, record.attack["through"])
    if failed := sum(arm.num_errors for arm in record.arms):
        lines.append(f"{failed} calls failed; their items count in no rate.")
    return tuple(lines)


def _adaptive(record: EvaluationRecord, through: Any) -> list[str]:
    """Say which arms the attacker knew: one guard, and neither the bare model's weak spots nor any other guard."""
    lines = [
        "The attacker knew the guard, and averaged gradients over its noise. The bare model is shown the same pictures:"
        " an attack on the bare model alone may do better there."
    ]
    other = [
        f"`{arm.name}`"
        for arm in record.arms
        if arm.name.startswith("adversarial")
        and arm.config
        and any(arm.config.get(k) != through.get(k) for k in _NOISE)
    ]
    if other:
        lines.append(f"Of {', '.join(other)} the attacker did not know how it perturbs: claim no robustness of these.")
    return lines


def _headline(arm: ArmRecord) -> str:
    name, value = next(iter(arm.scores.rows[-1].metrics.items()))
    return f"**{arm.name}**: {name} {_text(value)}, {arm.mean_calls:.1f} calls per item"


def _gains(record: EvaluationRecord) -> list[str]:
    """Say of how many items the guard changed the outcome, on clean and on attacked pictures."""
    what, _ = _words(record)
    wanted = {("clean", "guarded"), ("adversarial", "adversarial-guarded")}
    return [
        f"From `{pair.first}` to `{pair.second}`: {pair.test.only_second} items became {what} and"
        f" {pair.test.only_first} no longer were (p = {pair.test.p_value:.3g})."
        for pair in record.pairs
        if (pair.first, pair.second) in wanted
    ]


def in_words(arm: ArmRecord) -> str:
    """Return an arm's figures over all items, and its cost, in one line."""
    metrics = arm.scores.rows[-1].metrics
    shown = [f"{name} {_text(value)}" for name, value in metrics.items()]
    return f"{'; '.join(shown)}; {arm.mean_calls:.1f} calls per item"


def _text(value: Rate | float | int | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _arms_text(record: EvaluationRecord) -> tuple[str, ...]:
    notes = dict.fromkeys(f"{arm.name}: {note}" for arm in record.arms for note in arm.scores.notes)
    judge = (f"Judge: `{record.judge}`. It reads {_read(record)}.",) if record.judge else ()
    return (*judge, *notes)


def _read(record: EvaluationRecord) -> str:
    if record.benchmark == "llava-bench":
        return "the answer beside question, context and reference"
    return "question and answer" if record.judge.endswith(":with question") else "the answer alone"


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
    note = (
        "Calls are those of items that were answered. Verdicts are the guard's; `skipped`: the request held no medium,"
        " so that nothing was guarded; `abstained`: the samples disagreed, and a refusal in place of their answer is"
        " scored like any answer."
    )
    return Table(title="Cost and verdicts", columns=columns, rows=tuple(rows), note=note if verdicts else "")


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
    what, _ = _words(record)
    return Table(title=f"Items with the outcome `{what}`", columns=columns, rows=tuple(rows))


def _curves(record: EvaluationRecord, sweep: Mapping[str, Mapping[str, Any]]) -> tuple[Curve, ...]:
    """Draw the first figure of the swept arms, one line per kind of picture, where a single number was swept."""
    knobs = {knob for values in sweep.values() for knob in values}
    lines: dict[str, list[Point]] = {}
    figure = next(iter(record.arms[0].scores.rows[-1].metrics), "")
    for arm in record.arms:
        for knob, value in sweep.get(arm.name, {}).items():
            found = arm.scores.rows[-1].metrics.get(figure)
            if isinstance(value, int | float) and isinstance(found, Rate | float):
                # Of the label: a sweep's 0 is a knob's 0.0.
                lines.setdefault(arm.name.partition(f"{knob}=")[0].strip(" ,"), []).append(
                    Point(x=float(value), y=found)
                )
    if len(knobs) != 1 or not any(len(points) > 1 for points in lines.values()):
        return ()
    series = tuple(Series(name=name, points=tuple(points)) for name, points in lines.items())
    (knob,) = knobs
    return (Curve(title=f"{figure} by {knob}", x_label=knob, y_label=figure, series=series),)


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
    pictures: dict[str, str] = {}
    shown: set[Path] = set()
    for arm in arms:
        media = next((each.media for each in arm.items if each.id == item.id), ())
        if media and media[0] not in shown and (uri := _uri(media[0])):
            shown.add(media[0])
            pictures["original" if not pictures else f"as in {arm.name}"] = uri
    outcomes = {arm.name: arm.scores.outcomes.get(item.id) for arm in record.arms}
    return Case(
        title=item.id,
        question=item.question,
        pictures=pictures,
        answers=tuple(
            _answers(name, by_id[item.id], _verdict(record, outcomes[name]))
            for name, by_id in answers.items()
            if item.id in by_id
        ),
    )


def _verdict(record: EvaluationRecord, outcome: bool | None) -> str:
    if outcome is None:
        return "not judged"
    return _words(record)[0 if outcome else 1]


def _words(record: EvaluationRecord) -> tuple[str, str]:
    """Return what an outcome means, and its contrary."""
    if record.benchmark == "llava-bench":
        return "as good as the reference", "worse than the reference"
    return ("unsafe", "safe") if record.benchmark == "mm-safetybench" else ("right", "wrong")


def _answers(arm: str, answer: Answer, verdict: str) -> Answers:
    samples: Any = (answer.record or {}).get("samples") or []
    texts = tuple(str(sample.get("text", sample.get("error", ""))) for sample in samples)
    return Answers(arm=arm, answer=answer.error or answer.text, samples=texts, verdict=verdict)


def _uri(path: Path) -> str | None:
    from PIL import Image, ImageOps

    from smoothguard_guardrail.evaluation.report.pictures import picture_uri

    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # a recording, or nothing that can be shown
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return picture_uri(picture)
