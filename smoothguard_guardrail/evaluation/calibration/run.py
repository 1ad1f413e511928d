"""A whole calibration: measure every candidate, choose on one half of the rows, report on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.calibration.bench import Sweep
from smoothguard_guardrail.evaluation.calibration.choice import Choice, Limits, choose
from smoothguard_guardrail.evaluation.calibration.results import Measured, Unguarded
from smoothguard_guardrail.evaluation.calibration.rows import MIN_ROWS, Rows
from smoothguard_guardrail.evaluation.calibration.suspicion import SuspicionThresholds, measure_suspicion
from smoothguard_guardrail.evaluation.input_media import MediumKind
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.calibration.bench import Bench


class HeldOut(Record):
    """The chosen candidate on rows not used for the choice."""

    alone: Unguarded
    measured: Measured


class Calibration(Record):
    """The result of a calibration."""

    limits: Limits
    candidates: tuple[Measured, ...]
    """On the rows used for the choice."""
    alone: Unguarded
    """The model without a guard on the same rows."""
    choice: Choice
    held_out: HeldOut | None = None
    suspicion: SuspicionThresholds | None = None
    """Of the chosen candidate; None without one, or where it cannot be measured."""
    kinds: tuple[MediumKind, ...] = ("image",)
    """The kinds of media among the rows."""
    notes: tuple[str, ...] = ()
    """Caveats for readers."""
    environment: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def chosen(self) -> Measured | None:
        """The chosen candidate; None if none is within the limits."""
        return None if self.choice.index is None else self.candidates[self.choice.index]

    @property
    def guard(self) -> SmoothGuardConfig | None:
        """The chosen configuration with its threshold of suspicion; None if no candidate is within the limits."""
        if self.chosen is None:
            return None
        if self.suspicion is None:
            return self.chosen.config
        return self.chosen.config.override(vote={"suspicion_threshold": self.suspicion.chosen.threshold})


def calibrate(
    bench: Bench,
    rows: Rows,
    *,
    sweep: Sweep | None = None,
    base: SmoothGuardConfig | None = None,
    limits: Limits | None = None,
    environment: dict[str, JsonValue] | None = None,
) -> Calibration:
    """Find a configuration for a model and data.

    Args:
        bench: Measures the candidates.
        rows: The data, with harmless rows.
        sweep: Values to try; candidates over the call budget are left out.
        base: All other settings.
        limits: What the guard may cost.
        environment: Recorded for reproduction.

    Raises:
        InputError: There are no harmless rows.
        ConfigurationError: The sweep has no candidate within the call budget.
    """
    if not rows.harmless:
        raise InputError("utility cannot be measured: give harmless rows, with an answer each")
    sweep, base, limits = sweep or Sweep(), base or SmoothGuardConfig(), limits or Limits()
    affordable = tuple(count for count in sweep.num_samples if count <= limits.max_calls)
    if not affordable:
        raise ConfigurationError(f"every candidate needs more than {limits.max_calls} calls: try fewer samples")
    groups = sweep.model_copy(update={"num_samples": affordable}).configs(base)
    halves = rows.halves()
    choosing, reporting = halves or (rows, None)
    alone = bench.unguarded(choosing, base)
    candidates = tuple(each for group in groups for each in bench.measure(group, choosing, alone))
    choice = choose(candidates, limits, kinds=rows.kinds)
    held_out = suspicion = None
    if reporting is not None and choice.index is not None:
        without = bench.unguarded(reporting, base)
        (measured,) = bench.measure([candidates[choice.index].config], reporting, without)
        held_out = HeldOut(alone=without, measured=measured)
    if choice.index is not None:
        suspicion = measure_suspicion(bench, candidates[choice.index].config, choosing, reporting)
    return Calibration(
        limits=limits,
        candidates=candidates,
        alone=alone,
        choice=choice,
        held_out=held_out,
        suspicion=suspicion,
        kinds=rows.kinds,
        notes=_notes(rows, halves is not None, choice, limits),
        environment=environment or {},
    )


def _notes(rows: Rows, is_held_out: bool, choice: Choice, limits: Limits) -> tuple[str, ...]:
    notes = []
    if is_held_out:
        notes.append(
            "Half of the rows were used for the choice, the other half for the report: only the latter figures are"
            " unbiased by the choice."
        )
    else:
        notes.append(
            f"Too few rows to hold any out (fewer than {MIN_ROWS} of a kind): the figures are from the rows used"
            " for the choice, and flatter the chosen candidate."
        )
    count = len(rows.harmless) // (2 if is_held_out else 1)
    if count * limits.max_utility_loss < 1:
        notes.append(
            f"With {count} harmless rows the smallest measurable loss is {1 / count:.3f}: a limit of"
            f" {limits.max_utility_loss:g} allows no row to be lost on balance."
        )
    if choice.robustness in ("attacked", "given"):
        notes.append("No attack knew the guard: an attacker who does succeeds more often.")
    return tuple(notes)
