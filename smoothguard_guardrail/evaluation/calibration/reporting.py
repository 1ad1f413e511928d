"""The report of a calibration: the choice, the curves and every candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from smoothguard_guardrail.evaluation.calibration.results import (
    ADAPTIVE,
    ARMS,
    ATTACKED,
    GIVEN,
    HARMLESS,
    UNATTACKED,
    Measured,
    describe_noise,
)
from smoothguard_guardrail.evaluation.calibration.sections import (
    ARM_TITLES,
    frontier_sections,
    suspicion_lines,
    suspicion_sections,
)
from smoothguard_guardrail.evaluation.report.content import Cell, Curve, Point, Report, Section, Series, Table

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.calibration.run import Calibration

SETTING_NAMES = {
    "sigma": "sigma",
    "image.max_shift": "shift",
    "image.low_pass": "low-pass",
    "audio.snr_db": "SNR dB",
    "vote.refusal_share": "refusal share",
    "num_samples": "samples",
}
"""Short names of the settings that candidates vary."""
_ATTACKS = (ADAPTIVE, ATTACKED, GIVEN, UNATTACKED)


def calibration_report(found: Calibration, *, title: str = "Calibration") -> Report:
    """Return the report of a calibration."""
    return Report(
        title=title,
        summary=summary(found),
        sections=(
            Section(title="The choice", text=_choice_text(found), tables=(choice_table(found),)),
            *frontier_sections(found),
            *suspicion_sections(found),
            Section(title="Curves", curves=tuple(_curves(found))),
            Section(title="All candidates", text=found.notes, tables=(candidate_table(found),)),
            Section(title="How to read this", text=_READING),
        ),
        environment=found.environment,
    )


_READING = (
    "*Right* and *success* are shares of rows with Wilson's 95 % interval. *Success* is the attacker's: the answer"
    " contains what the attacker wanted. *Unattacked* rows are those to attack, with their original images; in *random"
    " signs* every value is moved by epsilon up or down at random, which an attack must beat; *attacked* rows are"
    " attacked on the bare model, *adaptive* ones through the candidate's own perturbation, draw by draw.",
    "*Loss* is the share of harmless rows that only the unguarded model gets right, minus the share that only the"
    " guarded one does; *McNemar p* is the exact test of the two on the same rows. *Loss at most* is the upper end of"
    " the 95 % interval of the loss (Newcombe's, for paired rows).",
    "A candidate is on the *frontier* if no other one has a success rate of the attacker, a loss and a number of calls"
    " that are as low or lower, and one of them lower.",
    "An attack that fails proves nothing about a stronger one: more steps and more draws raise adaptive rates.",
)


def summary(found: Calibration) -> tuple[str, ...]:
    """Return the result in a few sentences."""
    chosen = found.chosen
    if chosen is None:
        return (*found.choice.reasons, *found.choice.warnings, *found.notes)
    config = chosen.config
    lines = [
        f"Chosen: **{describe_noise(config, found.kinds)}**, **{config.num_samples} samples**,"
        f" {config.vote.refusals_needed(config.num_samples)} refusals win. Robustness: {found.choice.robustness}."
    ]
    reported, alone, rows = chosen, found.alone, "the rows used for the choice"
    if found.held_out is not None:
        reported, alone, rows = found.held_out.measured, found.held_out.alone, "held-out rows"
    lines.append(
        f"On {rows}: {reported.rates[HARMLESS]} harmless rows right, {alone.rates[HARMLESS]} without the guard (loss"
        f" {reported.utility_loss:+.3f}, at most {reported.loss_bound:.3f}, p = {reported.paired.p_value:.2g}), at"
        f" {reported.mean_calls:.1f} calls."
    )
    for arm in (ADAPTIVE, ATTACKED, GIVEN):
        if arm in reported.rates:
            without = f"; {alone.rates[arm]} without the guard" if arm in alone.rates else ""
            lines.append(f"Attacks that succeed, {arm} rows: {reported.rates[arm]}{without}.")
    if found.held_out is not None and reported.utility_loss > found.limits.max_utility_loss:
        lines.append(f"The loss on these rows is above the limit of {found.limits.max_utility_loss:g}: add rows.")
    return (*lines, *found.choice.warnings, *suspicion_lines(found), *found.notes)


def choice_table(found: Calibration) -> Table:
    """Return the chosen candidate next to the unguarded model, on the rows used for the choice and on held-out rows."""
    columns = [("without the guard", found.alone.rates, 1.0)]
    if (chosen := found.chosen) is not None:
        columns.append(("chosen", chosen.rates, chosen.mean_calls))
    if found.held_out is not None:
        alone, held = found.held_out.alone, found.held_out.measured
        columns.append(("held-out rows, without the guard", alone.rates, 1.0))
        columns.append(("held-out rows, chosen", held.rates, held.mean_calls))
    rows: list[tuple[Cell, ...]] = [
        (ARM_TITLES[arm], *(rates.get(arm) for _, rates, _ in columns)) for arm in _arms(found.candidates)
    ]
    rows.append(("calls per harmless row", *(round(calls, 2) for *_, calls in columns)))
    return Table(
        title="The chosen candidate",
        columns=("", *(name for name, *_ in columns)),
        rows=tuple(rows),
        note=f"Robustness: {found.choice.robustness}.",
    )


def candidate_table(found: Calibration) -> Table:
    """Return the results of every candidate."""
    arms, varying = _arms(found.candidates), varying_settings(found.candidates)
    rows = tuple(
        (
            _mark(found, index),
            _name(each.config, varying or ["sigma"]),
            *(each.rates.get(arm) for arm in arms),
            round(each.utility_loss, 4),
            round(each.loss_bound, 4),
            round(each.paired.p_value, 4),
            round(each.mean_calls, 2),
        )
        for index, each in enumerate(found.candidates)
    )
    columns = ("", "candidate", *(ARM_TITLES[arm] for arm in arms), "loss", "loss at most", "McNemar p", "calls")
    return Table(title="Candidates", columns=columns, rows=rows)


def _mark(found: Calibration, index: int) -> str:
    marks = {"chosen": index == found.choice.index, "frontier": index in found.choice.frontier}
    return ", ".join(mark for mark, holds in marks.items() if holds)


def _choice_text(found: Calibration) -> tuple[str, ...]:
    return (*found.choice.reasons, *(f"**{warning}**" for warning in found.choice.warnings))


def varying_settings(candidates: Sequence[Measured]) -> list[str]:
    """Return the settings in which candidates differ."""
    return [name for name in SETTING_NAMES if len({attrgetter(name)(each.config) for each in candidates}) > 1]


def _name(config: SmoothGuardConfig, settings: Iterable[str]) -> str:
    return ", ".join(f"{SETTING_NAMES[name]} {attrgetter(name)(config):g}" for name in settings)


def _arms(candidates: Sequence[Measured]) -> list[str]:
    return [arm for arm in ARMS if arm in candidates[0].rates]


def _curves(found: Calibration) -> Iterable[Curve]:
    arms = _arms(found.candidates)
    for arm in (HARMLESS, *_ATTACKS):
        if arm in arms:
            yield Curve(
                title=f"{ARM_TITLES[arm].capitalize()}, by sigma",
                x_label="sigma",
                y_label="share of rows",
                series=tuple(_series(found.candidates, arm)),
                note=f"Without the guard: {found.alone.rates[arm]}." if arm in found.alone.rates else "",
            )


def _series(candidates: Sequence[Measured], arm: str) -> Iterable[Series]:
    """Yield one line over sigma for every combination of the other settings."""
    others = [name for name in varying_settings(candidates) if name != "sigma"]
    lines: dict[str, list[Point]] = {}
    for each in candidates:
        point = Point(x=each.config.sigma, y=each.rates[arm])
        lines.setdefault(_name(each.config, others) or "all candidates", []).append(point)
    for name, points in lines.items():
        yield Series(name=name, points=tuple(sorted(points, key=lambda point: point.x)))
