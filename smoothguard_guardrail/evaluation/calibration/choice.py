"""Chooses the most robust candidate within a utility loss and a call budget, by intervals and not by counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.calibration.frontier import pareto
from smoothguard_guardrail.evaluation.calibration.results import (
    ATTACKED,
    ATTACKS,
    GIVEN,
    HARMLESS,
    Measured,
    describe_noise,
    upper_end,
)
from smoothguard_guardrail.evaluation.input_media import MediumKind
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import mcnemar

ALPHA = 0.05
"""p-value below which two candidates differ."""
MIN_TO_DIFFER = 6
"""Fewest rows on which McNemar's exact test can tell two candidates apart: 2 / 2**6 < 0.05."""
_Z = 1.959964  # of a 95 % interval

Robustness = Literal["adaptive", "attacked", "given", "not measured"]


class Limits(Record):
    """What the guard may cost."""

    max_utility_loss: float = Field(default=0.02, ge=0, le=1)
    """Largest share of right answers that may be lost; `choose` says how it is judged."""
    max_calls: int = Field(default=8, ge=1)
    """Most model calls per request."""

    @property
    def rows_needed(self) -> int | None:
        """Harmless rows, all right and none lost, whose interval ends within `max_utility_loss`; None: no number is."""
        loss = self.max_utility_loss
        return math.ceil(_Z**2 * (1 - loss) / loss) if loss else None


class Choice(Record):
    """The chosen candidate, and why."""

    index: int | None
    """Among the candidates; None if none is within the limits."""
    robustness: Robustness
    """The arm that decided."""
    evidence: Literal["interval", "count"] | None = None
    """What says that the loss is within the limit: its 95 % interval, or only the count; None without a choice."""
    frontier: tuple[int, ...] = ()
    """Candidates that no other one beats: see `choose`; empty if robustness was not measured."""
    reasons: tuple[str, ...]
    """For readers."""
    warnings: tuple[str, ...] = ()
    """What the rows are too few to tell."""


def choose(candidates: Sequence[Measured], limits: Limits, *, kinds: Sequence[MediumKind] = ("image",)) -> Choice:
    """Choose among candidates measured on the same rows.

    A candidate is within the limits if its `num_samples` is at most `max_calls` and the 95 % interval of its utility
    loss ends at or below `max_utility_loss`. If that holds for none, the rows are too few to show it, and the counted
    loss is compared instead; `evidence` and a warning say so.

    The best of these has the lowest upper end of the 95 % interval of the success rate under the strongest measured
    attack. Those that no measured attack shows to be worse (McNemar's exact test, p >= 0.05, row by row) count as
    equal to it. Of these the safest is chosen: the most samples, then the most noise, then the fewest refusals that
    win; among equals the cheapest. Without an attack, all that are within the limits count as equal.

    A candidate is on the frontier if no other one has a success rate, a utility loss and a number of calls that are as
    low or lower, and one of them lower.

    Args:
        candidates: Their results, on the same rows.
        limits: What the guard may cost.
        kinds: The kinds of media among the rows, for the words of the reasons.

    Raises:
        ConfigurationError: There are no candidates.
    """
    if not candidates:
        raise ConfigurationError("there are no candidates to choose from")
    robustness = _robustness(candidates[0])
    frontier = () if robustness == "not measured" else _frontier(candidates, robustness)
    within, evidence = _within(candidates, limits)
    if not within:
        nothing = _nothing_within(candidates, limits, kinds)
        return Choice(index=None, robustness=robustness, frontier=frontier, reasons=(nothing,))
    cost_reasons, warnings = _cost_reasons(candidates, within, limits, evidence)
    if robustness == "not measured":
        index = min(within, key=lambda each: _safety(candidates[each]))
        reasons = (*cost_reasons, _ASSUMPTION)
    else:
        best = min(within, key=lambda each: _rank(candidates[each], robustness))
        equal = [each for each in within if not _is_worse(candidates[each], candidates[best])]
        index = min(equal, key=lambda each: _safety(candidates[each]))
        reasons = (*cost_reasons, *_robustness_reasons(candidates, best, equal, robustness))
        warnings += _robustness_warnings(candidates, within, index, robustness, kinds)
    return Choice(
        index=index,
        robustness=robustness,
        evidence=evidence,
        frontier=frontier,
        reasons=reasons,
        warnings=warnings,
    )


def _robustness(measured: Measured) -> Robustness:
    for arm in ATTACKS:
        if arm in measured.rates:
            return arm  # type: ignore[return-value]
    return "not measured"


def _frontier(candidates: Sequence[Measured], robustness: str) -> tuple[int, ...]:
    known = [index for index, each in enumerate(candidates) if each.rates[robustness].n]
    points = [
        (candidates[each].rates[robustness].value or 0.0, candidates[each].utility_loss, candidates[each].mean_calls)
        for each in known
    ]
    return tuple(known[place] for place in pareto(points))


def _within(candidates: Sequence[Measured], limits: Limits) -> tuple[list[int], Literal["interval", "count"]]:
    """Return the candidates within the limits, and what says so."""
    counted = [index for index, each in enumerate(candidates) if _is_counted_within(each, limits)]
    shown = [index for index in counted if candidates[index].loss_bound <= limits.max_utility_loss]
    return (shown, "interval") if shown else (counted, "count")


def _is_counted_within(measured: Measured, limits: Limits) -> bool:
    return measured.config.num_samples <= limits.max_calls and measured.utility_loss <= limits.max_utility_loss + 1e-9


def _rank(measured: Measured, robustness: str) -> tuple[float, ...]:
    """Lower is better: upper ends of success under the deciding attack and the others, then safety and cost."""
    arms = [arm for arm in (robustness, ATTACKED, GIVEN) if arm in measured.rates]
    return (*(upper_end(measured.rates[arm]) for arm in arms), *_safety(measured))


def _safety(measured: Measured) -> tuple[float, ...]:
    """Lower is safer: more samples, more noise, fewer refusals that win; among equals cheaper."""
    return (-measured.config.num_samples, *_weakness(measured.config), measured.mean_calls, measured.utility_loss)


def _weakness(config: SmoothGuardConfig) -> tuple[float, ...]:
    audio, image = config.audio, config.image
    audio_weakness = audio.snr_db if audio.snr_db is not None else -(audio.sigma or 0.0)
    return -config.sigma, audio_weakness, config.vote.refusal_share, -image.max_shift, -image.low_pass


def _is_worse(one: Measured, best: Measured) -> bool:
    """Return whether some attack succeeds more often on one than on the best, beyond chance."""
    tests = [mcnemar(one.outcomes[arm], best.outcomes[arm]) for arm in ATTACKS if arm in one.outcomes]
    return any(test.p_value < ALPHA and test.only_first > test.only_second for test in tests)


def _cost_reasons(
    candidates: Sequence[Measured], within: Sequence[int], limits: Limits, evidence: Literal["interval", "count"]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return how the limits were judged, and a warning if the rows are too few for it."""
    limit, total = limits.max_utility_loss, len(candidates)
    if evidence == "interval":
        reason = f"{len(within)} of {total} candidates are within the limits: the 95 % interval of their loss ends at"
        reason += f" {limit:g} or below."
        others = sum(_is_counted_within(each, limits) for each in candidates) - len(within)
        if others:
            reason += (
                f" {others} more lost no more than that here, but their intervals end above it: only more rows can"
                " bring them in."
            )
        return (reason,), ()
    lowest = min(candidates[each].loss_bound for each in within)
    rows = candidates[within[0]].paired.num_items
    reason = f"{len(within)} of {total} candidates are within the limits as counted: of the rows here they lost a share"
    reason += (
        f" of {limit:g} or less. No candidate is shown to be. The count is the best estimate that there is, and too low"
        " as often as too high."
    )
    warning = (
        f"Too few harmless rows to tell whether the loss is within {limit:g}: on {rows} rows the lowest 95 % interval"
        f" ends at {lowest:.3f}; {_rows_advice(rows, limits.rows_needed)}."
    )
    return (reason,), (warning,)


def _rows_advice(rows: int, needed: int | None) -> str:
    if needed is None:
        return "a limit of 0 cannot be shown by any number of rows"
    if rows < needed:
        return f"{needed} rows, all right and none lost, would be the fewest to show it"
    return "what was lost is too near to the limit for so many rows"


def _robustness_reasons(
    candidates: Sequence[Measured], best: int, equal: Sequence[int], robustness: str
) -> tuple[str, ...]:
    rate = candidates[best].rates[robustness]
    lowest = f"The lowest success of {robustness} attacks is {rate}: at most {upper_end(rate):.3f}."
    if len(equal) == 1:
        return (lowest,)
    return (
        lowest,
        f"{len(equal)} candidates cannot be told apart by that on these rows (McNemar, p >= {ALPHA:g}). Of these the"
        " safest is taken: the most samples, then the most noise; only among equals the cheapest.",
    )


def _robustness_warnings(
    candidates: Sequence[Measured], within: Sequence[int], taken: int, robustness: str, kinds: Sequence[MediumKind]
) -> tuple[str, ...]:
    warnings = []
    rows = candidates[taken].rates[robustness].n
    if rows < MIN_TO_DIFFER:
        warnings.append(
            f"Too few rows to tell how robust candidates are: {rows} attacked, and below {MIN_TO_DIFFER} no two"
            " candidates can be told apart."
        )
    outside = [each for each in range(len(candidates)) if each not in within]
    better = [each for each in outside if _is_worse(candidates[taken], candidates[each])]
    if better:
        strongest = min(better, key=lambda each: _rank(candidates[each], robustness))
        other = candidates[strongest]
        warnings.append(
            f"The limits cost robustness: {describe_noise(other.config, kinds)}, {other.config.num_samples} samples let"
            f" {other.rates[robustness]} attacks succeed, at a loss of {other.utility_loss:.3f} (at most"
            f" {other.loss_bound:.3f})."
        )
    return tuple(warnings)


_ASSUMPTION = (
    "Robustness was not measured: there are no attacked rows, and no local model to attack. The safest candidate within"
    " the limits is chosen: the most samples, then the most noise. That robustness grows with them is an assumption: it"
    " is true only if the right answers survive the noise better than the attack, and says nothing about an attacker"
    " who knows the guard."
)


def _nothing_within(candidates: Sequence[Measured], limits: Limits, kinds: Sequence[MediumKind]) -> str:
    affordable = [each for each in candidates if each.config.num_samples <= limits.max_calls]
    if not affordable:
        return f"Every candidate needs more than {limits.max_calls} calls."
    least = min(affordable, key=lambda each: each.utility_loss)
    return (
        f"No candidate keeps the utility loss within {limits.max_utility_loss:g}: the least is"
        f" {least.utility_loss:.3f} ({describe_noise(least.config, kinds)}, {least.rates[HARMLESS]} right)."
    )
