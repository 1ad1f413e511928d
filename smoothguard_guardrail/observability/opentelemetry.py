"""`OpenTelemetryHandler`: the figures of the safety log as spans and metrics (extra `otel`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail import __version__
from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, VerdictLine

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE = "smoothguard_guardrail"

_AGREEMENT_BUCKETS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]
_CALL_BUCKETS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32]
_SECOND_BUCKETS = [0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]


class OpenTelemetryHandler(GuardObserver):
    """Reports every guarded call to OpenTelemetry: a span, and metrics by verdict.

    The span `smoothguard.guard` lasts as long as the guarded call and is a child of the caller's current span.
    Metrics: `smoothguard.calls` and `smoothguard.clean_overruled` (counters), `smoothguard.agreement`,
    `smoothguard.model_calls` and `smoothguard.duration` (histograms; seconds by `stage`, including `total`). Each has
    the attribute `smoothguard.verdict`: `passed`, `abstained`, `skipped`, or `failed` with an `error.type`. Texts,
    media and the run's metadata are not reported.

    Args:
        tracer_provider: Receives the spans; None: the global provider.
        meter_provider: Receives the metrics; None: the global provider.

    Raises:
        MissingDependencyError: If `opentelemetry-api` is not installed.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> guard = SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))
        >>> guard.invoke("Hi!", {"callbacks": [OpenTelemetryHandler()]}).content
        'Hello.'
    """

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingDependencyError("opentelemetry-api", "otel") from error
        super().__init__()
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._calls = meter.create_counter("smoothguard.calls", "{call}", "Guarded calls")
        self._overruled = meter.create_counter(
            "smoothguard.clean_overruled", "{call}", "Guarded calls whose clean copy's answer lost the vote"
        )
        self._agreement = meter.create_histogram(
            "smoothguard.agreement",
            "1",
            "Share of the answers in the winning cluster",
            explicit_bucket_boundaries_advisory=_AGREEMENT_BUCKETS,
        )
        self._suspicion = meter.create_histogram(
            "smoothguard.suspicion",
            "1",
            "How much the clean copy's answer differs from the others'",
            explicit_bucket_boundaries_advisory=_AGREEMENT_BUCKETS,
        )
        self._model_calls = meter.create_histogram(
            "smoothguard.model_calls",
            "{call}",
            "Model calls per guarded call",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self._duration = meter.create_histogram(
            "smoothguard.duration",
            "s",
            "Seconds of a guarded call by stage",
            explicit_bucket_boundaries_advisory=_SECOND_BUCKETS,
        )

    def observe(self, line: Line) -> None:
        """Report one guarded call that has just ended."""
        self._measure(line)
        self._trace(line)

    def _measure(self, line: Line) -> None:
        labels = _labels(line)
        self._calls.add(1, labels)
        if line.num_calls is not None:
            self._model_calls.record(line.num_calls, labels)
        for stage, seconds in line.timings.items():
            self._duration.record(seconds, labels | {"stage": stage})
        if isinstance(line, VerdictLine) and line.verdict != "skipped":
            self._agreement.record(line.agreement, labels)
            if line.suspicion is not None:
                self._suspicion.record(line.suspicion, labels)
            if line.clean_overruled:
                self._overruled.add(1, labels)

    def _trace(self, line: Line) -> None:
        from opentelemetry.trace import Status, StatusCode

        end = time.time_ns()
        start = end - round(1e9 * line.timings.get("total", 0.0))
        span = self._tracer.start_span("smoothguard.guard", start_time=start, attributes=_attributes(line))
        if isinstance(line, FailureLine):
            span.set_status(Status(StatusCode.ERROR, line.message))
        span.end(end)


def _labels(line: Line) -> dict[str, Any]:
    if isinstance(line, FailureLine):
        return {"smoothguard.verdict": "failed", "error.type": line.error}
    return {"smoothguard.verdict": line.verdict}


def _attributes(line: Line) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run_id": str(line.run_id),
        "parent_run_id": str(line.parent_run_id) if line.parent_run_id else None,
        "num_calls": line.num_calls,
        "num_failures": len(line.failures),
    } | {f"seconds.{stage}": seconds for stage, seconds in line.timings.items()}
    usage: dict[str, Any] = {}
    if isinstance(line, VerdictLine):
        found |= {
            "action": line.action,
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
    named = {f"smoothguard.{name}": value for name, value in found.items() if value is not None}
    return named | usage | _labels(line)
