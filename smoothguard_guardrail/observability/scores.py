"""What a guarded call is worth as scores: the same names and words in OpenTelemetry, LangSmith and Langfuse."""

from __future__ import annotations

from dataclasses import dataclass

from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line
from smoothguard_guardrail.result import Reason

_WORDS: dict[Reason, str] = {
    "refusals": "Enough answers refused.",
    "majority": "The largest group of answers won.",
    "low_agreement": "No group of answers was large enough.",
    "tie": "Two groups of answers were equally good.",
    "no_media": "The request held nothing to guard.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One score of a guarded call: a number in [0, 1], a label, or both."""

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    """In fixed words: never part of a request or an answer."""


def scores_of(line: Line) -> list[Score]:
    """Return the verdict, and the agreement and the suspicion of a call that has them.

    A call that the guard could not finish has the verdict `failed`.
    """
    if isinstance(line, FailureLine):
        return [Score(name="smoothguard.verdict", label="failed", explanation=line.error)]
    scores = [Score(name="smoothguard.verdict", label=line.verdict, explanation=explain(line.reason))]
    if line.verdict != "skipped":
        scores.append(Score(name="smoothguard.agreement", value=line.agreement))
    if line.suspicion is not None:
        label = None if line.suspicious is None else "suspicious" if line.suspicious else "not_suspicious"
        scores.append(Score(name="smoothguard.suspicion", value=line.suspicion, label=label))
    return scores


def explain(reason: Reason | None) -> str | None:
    """Return a reason as a sentence.

    Example:
        >>> explain("tie")
        'Two groups of answers were equally good.'
    """
    return None if reason is None else _WORDS[reason]
