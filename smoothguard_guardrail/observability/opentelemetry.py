"""`OpenTelemetryHandler`: the figures of the safety log as spans, events and metrics (extra `otel`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from smoothguard_guardrail import __version__
from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, VerdictLine
from smoothguard_guardrail.observability.scores import scores_of
from smoothguard_guardrail.observability.span_attributes import (
    EVALUATION_EVENT,
    GUARDRAIL_EVENT,
    GUARDRAIL_SPAN,
    evaluation_attributes,
    guardrail_results,
    guardrail_span_attributes,
    openinference_attributes,
    own_attributes,
    verdict_attributes,
)

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

SCOPE = "smoothguard_guardrail"

_AGREEMENT_BUCKETS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0]
_CALL_BUCKETS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32]
_SECOND_BUCKETS = [0.005, 0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64]


class OpenTelemetryHandler(GuardObserver):
    """Reports every guarded call to OpenTelemetry: a span, events of its scores, and metrics by verdict.

    The span `smoothguard.guard` lasts as long as the guarded call and is a child of the caller's current span. It says
    to readers of OpenInference that it is a guardrail. The events `gen_ai.evaluation.result` belong to it: the verdict
    (with what decided), the agreement, and the suspicion where there is one.
    Metrics: `smoothguard.calls` and `smoothguard.clean_overruled` (counters), `smoothguard.agreement`,
    `smoothguard.model_calls` and `smoothguard.duration` (histograms; seconds by `stage`, including `total`). Each has
    the attribute `smoothguard.verdict`: `passed`, `abstained`, `skipped`, or `failed` with an `error.type`. Media and
    the run's metadata are not reported, and texts only with `include_texts=True`.

    Args:
        tracer_provider: Receives the spans; None: the global provider.
        meter_provider: Receives the metrics; None: the global provider.
        logger_provider: Receives the events; None: the global provider.
        genai_conventions: Whether to follow a proposal to OpenTelemetry's GenAI conventions, which may still change
            (semantic-conventions-genai#427): the span is then `apply_guardrail SmoothGuard`, with the attributes
            `gen_ai.guardrail.*`, and events `gen_ai.guardrail.result` belong to it.
        include_texts: Whether the span has the elected answer as `output.value`, and messages of exceptions that may
            quote answers.

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
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        genai_conventions: bool = False,
        include_texts: bool = False,
    ) -> None:
        try:
            from opentelemetry import _logs, metrics, trace
        except ImportError as error:
            raise MissingDependencyError("opentelemetry-api", "otel") from error
        super().__init__(include_texts=include_texts)
        self._genai_conventions = genai_conventions
        self._logger = _logs.get_logger(SCOPE, __version__, logger_provider)
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
        labels = verdict_attributes(line)
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
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        end = time.time_ns()
        start = end - round(1e9 * line.timings.get("total", 0.0))
        name, attributes = "smoothguard.guard", own_attributes(line) | openinference_attributes(line)
        if self._genai_conventions:
            name, attributes = GUARDRAIL_SPAN, attributes | guardrail_span_attributes(line)
        span = self._tracer.start_span(name, start_time=start, attributes=attributes)
        if isinstance(line, FailureLine):
            span.set_status(Status(StatusCode.ERROR, line.message))
        self._emit_events(line, set_span_in_context(span), end)
        span.end(end)

    def _emit_events(self, line: Line, context: Context, time_ns: int) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber

        events = [(EVALUATION_EVENT, evaluation_attributes(score, line)) for score in scores_of(line)]
        if self._genai_conventions:
            events += [(GUARDRAIL_EVENT, attributes) for attributes in guardrail_results(line)]
        for name, attributes in events:
            self._logger.emit(
                LogRecord(
                    timestamp=time_ns,
                    context=context,
                    severity_number=SeverityNumber.INFO,
                    event_name=name,
                    attributes=attributes,
                )
            )
