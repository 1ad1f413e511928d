"""Parts of the report of a calibration: what robustness costs, and the thresholds of suspicion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from smoothguard_guardrail.evaluation.calibration.frontier import pareto
from smoothguard_guardrail.evaluation.calibration.results import (
    ADAPTIVE,
    ATTACKED,
    CONTROL,
    GIVEN,
    HARMLESS,
    UNATTACKED,
    Measured,
)
from smoothguard_guardrail.evaluation.report.content import Cell, Curve, Point, Section, Series, Table

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.calibration.run import Calibration
    from smoothguard_guardrail.evaluation.calibration.suspicion import Alarm, SuspicionThresholds

ARM_TITLES = {
    HARMLESS: "harmless, right",
    UNATTACKED: "unattacked, success",
    CONTROL: "random signs, success",
    GIVEN: "given, success",
    ATTACKED: "attacked, success",
    ADAPTIVE: "adaptive, success",
}


def frontier_sections(found: Calibration) -> Iterable[Section]:
    """Yield what robustness costs: the success of attacks by utility loss and by calls; nothing if not measured."""
    arm = found.choice.robustness
    if not found.choice.frontier:
        return
    titles = {"utility loss": attrgetter("utility_loss"), "calls": attrgetter("mean_calls")}
    yield Section(
        title="What robustness costs",
        text=(
            "Lower is better on both axes. The line joins the candidates that no other one beats on these two axes.",
        ),
        curves=tuple(
            Curve(
                title=f"{ARM_TITLES[arm].capitalize()}, by {name}",
                x_label=name,
                y_label="share of rows",
                series=tuple(_frontier_series(found, arm, cost)),
            )
            for name, cost in titles.items()
        ),
    )


def _frontier_series(found: Calibration, arm: str, cost: Callable[[Measured], float]) -> Iterable[Series]:
    known = [each for each in found.candidates if each.rates[arm].n]
    best = set(pareto([(each.rates[arm].value or 0.0, cost(each)) for each in known]))
    groups = {
        "on the frontier": [each for index, each in enumerate(known) if index in best],
        "beaten by another": [each for index, each in enumerate(known) if index not in best],
        "chosen": [found.chosen] if found.chosen is not None and found.chosen.rates[arm].n else [],
    }
    for name, candidates in groups.items():
        points = sorted((Point(x=cost(each), y=each.rates[arm]) for each in candidates), key=lambda point: point.x)
        if points:
            yield Series(name=name, points=tuple(points), is_line=name == "on the frontier")


def suspicion_sections(found: Calibration) -> Iterable[Section]:
    """Yield the thresholds of suspicion; nothing if they were not measured."""
    if (measured := found.suspicion) is None:
        return
    arms = list(measured.alarms[0].found)
    rows: list[tuple[Cell, ...]] = [
        (
            f"{alarm.wanted:.0%}" + (", written" if alarm == measured.chosen else ""),
            round(alarm.threshold, 4),
            alarm.false_alarms,
            *(alarm.found[arm] for arm in arms),
        )
        for alarm in measured.alarms
    ]
    columns = ("false alarms at most", "suspicion above", "false alarms", *(f"{arm} rows found" for arm in arms))
    other = "other" if measured.is_held_out else "the same"
    note = f"Set on {measured.num_rows} harmless rows; the rates are of {other} rows."
    yield Section(
        title="Suspicion",
        text=suspicion_lines(found),
        tables=(Table(title="Thresholds of suspicion", columns=columns, rows=tuple(rows), note=note),),
    )


def _alarm_text(alarm: Alarm, measured: SuspicionThresholds) -> str:
    where = "held-out rows" if measured.is_held_out else "the same rows"
    found = "".join(f", {rate} {arm} rows found" for arm, rate in alarm.found.items())
    return (
        f"above {alarm.threshold:.2f}, for at most {alarm.wanted:.0%} false alarms; on {where}"
        f" {alarm.false_alarms} false alarms{found}"
    )


def suspicion_lines(found: Calibration) -> tuple[str, ...]:
    """Return the threshold of suspicion that is written, what it rests on, and whether the guard uses it."""
    if (measured := found.suspicion) is None or found.chosen is None:
        return ()
    alarm = measured.chosen
    lines = [f"Threshold of suspicion, set on {measured.num_rows} harmless rows: {_alarm_text(alarm, measured)}."]
    others = [other for other in measured.alarms if other.threshold != alarm.threshold]
    lines += [f"Not written: {_alarm_text(other, measured)}." for other in others]
    if measured.num_rows * alarm.wanted < 1:
        lines.append(
            f"The threshold of suspicion is the highest score of {measured.num_rows} harmless rows: fewer than"
            f" {round(1 / alarm.wanted)} cannot tell how often it gives a false alarm."
        )
    if not found.chosen.config.include_clean:
        lines.append(
            "The guard computes suspicion only with `include_clean = true`, which shows the model one unperturbed copy:"
            " the threshold was measured with it, and marks nothing without."
        )
    return tuple(lines)
