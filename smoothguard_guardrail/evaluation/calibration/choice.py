"""Chooses the most robust candidate within a utility loss and a call budget, allowing for chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.calibration.bench import ADAPTIVE, ATTACKED, GIVEN, HARMLESS, Measured
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import mcnemar

ALPHA = 0.05
"""p-value below which two candidates differ."""

Robustness = Literal["adaptive", "attacked", "given", "not measured"]


class Limits(Record):
    """What the guard may cost."""

    max_utility_loss: float = Field(default=0.02, ge=0, le=1)
    """Largest share of right answers that may be lost, as counted."""
    max_calls: int = Field(default=8, ge=1)
    """Most model calls per request."""


class Choice(Record):
    """The chosen candidate, and why."""

    index: int | None
    """Among the candidates; None if none is within the limits."""
    robustness: Robustness
    """The arm that decided."""
    reasons: tuple[str, ...]
    """For readers."""


def choose(candidates: Sequence[Measured], limits: Limits) -> Choice:
    """Choose among candidates measured on the same rows.

    A candidate is within the limits if its `num_samples` is at most `max_calls` and the counted utility loss at most
    `max_utility_loss`. The best of these has the lowest success rate under the strongest measured attack; those whose
    outcomes McNemar's exact test does not distinguish from the best's (p >= 0.05, row by row) count as equal to it. Of
    these, the one with the fewest `num_samples` is chosen, then that with the lowest success rate.

    Without an attack, the largest sigma within the limits is chosen, assuming that robustness grows with it.

    Raises:
        ConfigurationError: There are no candidates.
    """
    if not candidates:
        raise ConfigurationError("there are no candidates to choose from")
    robustness = _robustness(candidates[0])
    within = [index for index, each in enumerate(candidates) if _is_within(each, limits)]
    if not within:
        return Choice(index=None, robustness=robustness, reasons=(_nothing_within(candidates, limits),))
    first = f"{len(within)} of {len(candidates)} candidates are within the limits."
    if robustness == "not measured":
        return _by_assumption(candidates, within, first)
    best = min(within, key=lambda index: _rank(candidates[index], robustness))
    equal = [index for index in within if not _differ(candidates[index], candidates[best], robustness)]
    taken = min(equal, key=lambda index: (candidates[index].config.num_samples, *_rank(candidates[index], robustness)))
    reasons = [first, f"The lowest success rate of {robustness} images is {candidates[best].rates[robustness]}."]
    if len(equal) > 1:
        reasons.append(
            f"{len(equal)} candidates cannot be distinguished on these rows (McNemar, p >= {ALPHA:g}); of these the one"
            f" with the fewest calls is chosen, then that with the lowest rate."
        )
    return Choice(index=taken, robustness=robustness, reasons=tuple(reasons))


def _robustness(measured: Measured) -> Robustness:
    for arm in (ADAPTIVE, ATTACKED, GIVEN):
        if arm in measured.rates:
            return arm  # type: ignore[return-value]
    return "not measured"


def _is_within(measured: Measured, limits: Limits) -> bool:
    return measured.config.num_samples <= limits.max_calls and measured.utility_loss <= limits.max_utility_loss + 1e-9


def _rank(measured: Measured, robustness: str) -> tuple[float, ...]:
    """Lower is better: the deciding arm, the other attacks, right answers, calls, noise."""
    others = [measured.rates[arm] for arm in (robustness, ATTACKED, GIVEN) if arm in measured.rates]
    rates = [1.0 if rate.value is None else rate.value for rate in others]
    return (*rates, measured.utility_loss, measured.mean_calls, measured.config.sigma)


def _differ(one: Measured, other: Measured, arm: str) -> bool:
    return mcnemar(one.outcomes[arm], other.outcomes[arm]).p_value < ALPHA


def _by_assumption(candidates: Sequence[Measured], within: Sequence[int], first: str) -> Choice:
    def key(index: int) -> tuple[float, ...]:
        measured = candidates[index]
        return -measured.config.sigma, measured.utility_loss, measured.config.num_samples, measured.mean_calls

    assumption = (
        "Robustness was not measured: there are no attacked images, and no local model to attack. The largest sigma"
        " within the limits is chosen. That robustness grows with sigma is an assumption: it is true only if the"
        " right answers survive the noise better than the attack, and says nothing about an attacker who knows the"
        " guard."
    )
    return Choice(index=min(within, key=key), robustness="not measured", reasons=(first, assumption))


def _nothing_within(candidates: Sequence[Measured], limits: Limits) -> str:
    affordable = [each for each in candidates if each.config.num_samples <= limits.max_calls]
    if not affordable:
        return f"Every candidate needs more than {limits.max_calls} calls."
    least = min(affordable, key=lambda each: each.utility_loss)
    return (
        f"No candidate keeps the utility loss within {limits.max_utility_loss:g}: the least is"
        f" {least.utility_loss:.3f} (sigma {least.config.sigma:g}, {least.rates[HARMLESS]} right)."
    )
