"""A guarded call in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoothguard_guardrail.result import GuardResult


def verdict_line(result: GuardResult) -> str:
    """Return the verdict, the agreement and the number of calls as one line.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> from smoothguard_guardrail.result import GuardResult
        >>> answer = AIMessage("Hi.")
        >>> verdict_line(GuardResult(answer=answer, verdict="skipped", action="skipped", agreement=1.0, num_calls=1))
        'skipped: nothing to guard, 1 call'
    """
    calls = f"{result.num_calls} call" + ("s" if result.num_calls != 1 else "")
    if result.verdict == "skipped":
        return f"skipped: nothing to guard, {calls}"
    parts = [f"agreement {result.agreement:.2f}", calls]
    if failed := sum(sample.error is not None for sample in result.samples):
        parts.append(f"{failed} failed")
    if result.suspicion is not None:
        parts.append(f"suspicion {result.suspicion:.2f}" + (", suspicious" if result.suspicious else ""))
    if result.clean_overruled:
        parts.append("the clean copy's answer was overruled")
    return f"{result.verdict}, {result.action}: {', '.join(parts)}"
