"""A guarded call as attributes of spans and events: our own, OpenInference's, and OpenTelemetry's for GenAI."""

from __future__ import annotations

import json
from typing import Any

from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, VerdictLine
from smoothguard_guardrail.observability.scores import Score, explain

EVALUATION_EVENT = "gen_ai.evaluation.result"
GUARDRAIL_EVENT = "gen_ai.guardrail.result"

_COMPONENT = "SmoothGuard"
GUARDRAIL_SPAN = f"apply_guardrail {_COMPONENT}"


def verdict_attributes(line: Line) -> dict[str, Any]:
    """Return what the points of metrics differ by: the verdict, and the exception of a call that failed."""
    if isinstance(line, FailureLine):
        return {"smoothguard.verdict": "failed", "error.type": line.error}
    return {"smoothguard.verdict": line.verdict}


def own_attributes(line: Line) -> dict[str, Any]:
    """Return the figures of a call."""
    found: dict[str, Any] = {
        "version": line.version,
        "settings_hash": line.settings_hash,
        "run_id": str(line.run_id),
        "parent_run_id": str(line.parent_run_id) if line.parent_run_id else None,
        "num_calls": line.num_calls,
        "num_failures": len(line.failures),
    } | {f"seconds.{stage}": seconds for stage, seconds in line.timings.items()}
    usage: dict[str, Any] = {}
    if isinstance(line, VerdictLine):
        found |= {
            "action": line.action,
            "reason": line.reason,
            "withheld": line.withheld,
            "agreement": line.agreement,
            "suspicion": line.suspicion,
            "clean_overruled": line.clean_overruled,
            "cluster_sizes": [cluster.size for cluster in line.clusters],
            "media.sha256": [medium.sha256 or "" for medium in line.media],
            "media.kind": [medium.kind for medium in line.media],
            "media.action": [medium.action for medium in line.media],
            "sigma": line.sigma,
            "noise_space": line.noise_space,
        }
        if line.usage:
            usage = {f"gen_ai.usage.{name}": line.usage[name] for name in ("input_tokens", "output_tokens")}
    return _known({f"smoothguard.{name}": value for name, value in found.items()}) | usage | verdict_attributes(line)


def openinference_attributes(line: Line) -> dict[str, Any]:
    """Return the attributes that make a span a guardrail to readers of OpenInference.

    The input is a summary of the media. The output is the verdict, or the answer where texts were asked for.

    Source: OpenInference semantic conventions 0.1.42.
    """
    found = {"openinference.span.kind": "GUARDRAIL"}
    if isinstance(line, FailureLine):
        return found
    media = [{"path": medium.path, "kind": medium.kind, "sha256": medium.sha256} for medium in line.media]
    verdict = {"verdict": line.verdict, "action": line.action, "agreement": line.agreement}
    found |= {"input.value": json.dumps({"media": media}), "input.mime_type": "application/json"}
    if line.answer is not None:
        return found | {"output.value": line.answer, "output.mime_type": "text/plain"}
    return found | {"output.value": json.dumps(verdict), "output.mime_type": "application/json"}


def evaluation_attributes(score: Score, line: Line) -> dict[str, Any]:
    """Return the attributes of a `gen_ai.evaluation.result` event.

    Source: OpenTelemetry's GenAI semantic conventions, `model/gen-ai/events.yaml` (in development).
    """
    return _known(
        {
            "gen_ai.evaluation.name": score.name,
            "gen_ai.evaluation.score.value": score.value,
            "gen_ai.evaluation.score.label": score.label,
            "gen_ai.evaluation.explanation": score.explanation,
            "error.type": line.error if isinstance(line, FailureLine) else None,
        }
    )


def guardrail_span_attributes(line: Line) -> dict[str, Any]:
    """Return the attributes of an `apply_guardrail` span: the guardrail, its policy, and the verdict.

    Source: the proposal semantic-conventions-genai#427 at commit f5e3733.
    """
    return {"gen_ai.operation.name": "apply_guardrail"} | _guardrail(line) | _guardrail_verdict(line)


def guardrail_results(line: Line) -> list[dict[str, Any]]:
    """Return the attributes of each `gen_ai.guardrail.result` event: verdict, action, and suspicion where there is one.

    Source: as for `guardrail_span_attributes`.
    """
    results = [_guardrail_verdict(line)]
    if isinstance(line, VerdictLine):
        results.append(_guardrail_result("action", line.action))
        if line.suspicion is not None:
            score = {"gen_ai.guardrail.risk.score": line.suspicion}
            results.append(_guardrail_result("suspicion", str(line.suspicion)) | score)
    return [_guardrail(line) | result for result in results]


def _guardrail(line: Line) -> dict[str, Any]:
    return _known(
        {
            "gen_ai.provider.name": "smoothguard",
            "gen_ai.guardrail.component.name": _COMPONENT,
            "gen_ai.guardrail.policy.id": line.settings_hash,
            "gen_ai.guardrail.policy.version": line.version,
        }
    )


def _guardrail_verdict(line: Line) -> dict[str, Any]:
    if isinstance(line, FailureLine):
        return {"error.type": line.error}
    return _guardrail_result("verdict", line.verdict, explain(line.reason))


def _guardrail_result(kind: str, value: str, reason: str | None = None) -> dict[str, Any]:
    named = {"type": kind, "value": value, "reason": reason}
    return _known({f"gen_ai.guardrail.result.{name}": value for name, value in named.items()})


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
