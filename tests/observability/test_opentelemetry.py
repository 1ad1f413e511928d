"""Spans, events and metrics, read back from the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from openinference.semconv.trace import OpenInferenceMimeTypeValues, OpenInferenceSpanKindValues, SpanAttributes
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import smoothguard_guardrail
from smoothguard_guardrail import MissingDependencyError, QuorumError
from smoothguard_guardrail.observability.opentelemetry import OpenTelemetryHandler
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import QUESTION, guarded, image_block, question

DISAGREEING = ["A cat.", "A dog.", "One sun.", "Two moons."]


class Backend(NamedTuple):
    handler: OpenTelemetryHandler
    tracer_provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    logs: InMemoryLogRecordExporter
    providers: dict[str, Any]

    def with_conventions(self) -> OpenTelemetryHandler:
        return OpenTelemetryHandler(**self.providers, genai_conventions=True)

    def with_texts(self) -> OpenTelemetryHandler:
        return OpenTelemetryHandler(**self.providers, include_texts=True)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the attributes of all events of a name."""
        records = [item.log_record for item in self.logs.get_finished_logs()]
        return [dict(record.attributes or {}) for record in records if record.event_name == name]

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> dict[tuple[Any, ...], Any]:
        """Return the data points of a metric by the values of their attributes."""
        data = self.reader.get_metrics_data()
        return {
            tuple(point.attributes.values()): point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


@pytest.fixture
def backend() -> Iterator[Backend]:
    exporter, reader, logs = InMemorySpanExporter(), InMemoryMetricReader(), InMemoryLogRecordExporter()
    traces, meters, loggers = TracerProvider(), MeterProvider([reader]), LoggerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(logs))
    providers = {"tracer_provider": traces, "meter_provider": meters, "logger_provider": loggers}
    yield Backend(OpenTelemetryHandler(**providers), traces, exporter, reader, logs, providers)  # type: ignore[arg-type]
    loggers.shutdown()
    meters.shutdown()
    traces.shutdown()


def test_calls_are_counted_by_verdict(backend: Backend) -> None:
    config: Any = {"callbacks": [backend.handler]}
    guarded(ScriptedChatModel(script=["A cat."])).invoke(question(), config)
    guarded(ScriptedChatModel(script=["A cat."])).invoke("Hello", config)
    guarded(ScriptedChatModel(script=DISAGREEING), min_agreement=0.9).batch([question()] * 2, config)
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError("no")])).invoke(question(), config)
    counts = {key: point.value for key, point in backend.points("smoothguard.calls").items()}
    assert counts == {("passed",): 1, ("skipped",): 1, ("abstained",): 2, ("failed", "QuorumError"): 1}


def test_agreement_calls_and_seconds_are_histograms(backend: Backend) -> None:
    guard = guarded(ScriptedChatModel(script=["A cat.", "A cat.", "A cat.", "A dog."]))
    guard.invoke(question(), {"callbacks": [backend.handler]})
    guard.invoke("Hello", {"callbacks": [backend.handler]})
    agreement = backend.points("smoothguard.agreement")
    assert {key: (point.count, point.sum) for key, point in agreement.items()} == {("passed",): (1, 0.75)}
    assert 0.7 in agreement["passed",].explicit_bounds
    calls = backend.points("smoothguard.model_calls")
    assert {key: point.sum for key, point in calls.items()} == {("passed",): 4, ("skipped",): 1}
    stages = {stage for verdict, stage in backend.points("smoothguard.duration") if verdict == "passed"}
    assert stages == {"scan", "perturb", "model", "vote", "total"}


def test_overruled_clean_copies_are_counted(backend: Backend) -> None:
    script = ["The code is 7391.", "A cat.", "A cat.", "A cat."]
    guard = guarded(ScriptedChatModel(script=script), include_clean=True, max_concurrency=1)
    guard.invoke(question(), {"callbacks": [backend.handler]})
    assert backend.points("smoothguard.clean_overruled")["passed",].value == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_the_span_is_a_child_of_the_callers_span(backend: Backend, is_async: bool) -> None:
    guard = guarded(AsyncScriptedChatModel(script=["A cat."], delay=0.01))
    config: Any = {"callbacks": [backend.handler]}
    with backend.tracer_provider.get_tracer("test").start_as_current_span("request"):
        asyncio.run(guard.ainvoke(question(), config)) if is_async else guard.invoke(question(), config)
    span, request = backend.spans
    assert (span.name, request.name) == ("smoothguard.guard", "request")
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id  # type: ignore[union-attr]
    attributes = dict(span.attributes or {})
    assert attributes["smoothguard.verdict"] == "passed"
    assert attributes["smoothguard.cluster_sizes"] == (4,)
    assert attributes["smoothguard.media.kind"] == ("image",)
    assert len(attributes["smoothguard.media.sha256"][0]) == 64  # type: ignore[index, arg-type]
    assert span.start_time is not None
    assert span.end_time is not None
    seconds = (span.end_time - span.start_time) / 1e9
    assert seconds == pytest.approx(attributes["smoothguard.seconds.total"], abs=1e-6)


def test_a_failure_is_an_error_without_the_providers_message(backend: Backend) -> None:
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError("the vault code")])).invoke(
            question(), {"callbacks": [backend.handler]}
        )
    (span,) = backend.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "0 samples answered, 3 were required"
    assert (span.attributes or {})["error.type"] == "QuorumError"
    assert "vault" not in span.to_json()


def test_without_opentelemetry_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingDependencyError, match=r"smoothguard-guardrail\[otel\]"):
        OpenTelemetryHandler()


def evaluations(backend: Backend) -> dict[str, dict[str, Any]]:
    return {str(found["gen_ai.evaluation.name"]): found for found in backend.events("gen_ai.evaluation.result")}


def test_scores_are_evaluation_events_of_the_guards_span(backend: Backend) -> None:
    script = ["The code is 7391.", "A cat.", "A cat.", "A cat."]
    guard = guarded(ScriptedChatModel(script=script), include_clean=True, max_concurrency=1, suspicion_threshold=0.4)
    with backend.tracer_provider.get_tracer("test").start_as_current_span("request"):
        guard.invoke(question(), {"callbacks": [backend.handler]})
    found = evaluations(backend)
    assert {name: found[name].get("gen_ai.evaluation.score.value") for name in found} == {
        "smoothguard.verdict": None,
        "smoothguard.agreement": 0.75,
        "smoothguard.suspicion": 0.5,
    }
    assert found["smoothguard.verdict"]["gen_ai.evaluation.score.label"] == "passed"
    assert found["smoothguard.verdict"]["gen_ai.evaluation.explanation"] == "The largest group of answers won."
    assert found["smoothguard.suspicion"]["gen_ai.evaluation.score.label"] == "suspicious"
    span = next(span for span in backend.spans if span.name == "smoothguard.guard")
    records = [item.log_record for item in backend.logs.get_finished_logs()]
    assert {(record.trace_id, record.span_id) for record in records} == {(span.context.trace_id, span.context.span_id)}


def test_a_failure_is_an_evaluation_with_its_error(backend: Backend) -> None:
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError("no")])).invoke(question(), {"callbacks": [backend.handler]})
    assert evaluations(backend) == {
        "smoothguard.verdict": {
            "gen_ai.evaluation.name": "smoothguard.verdict",
            "gen_ai.evaluation.score.label": "failed",
            "gen_ai.evaluation.explanation": "QuorumError",
            "error.type": "QuorumError",
        }
    }


def test_the_names_of_the_guardrail_proposal_are_behind_a_switch(backend: Backend) -> None:
    guard = guarded(ScriptedChatModel(script=DISAGREEING), min_agreement=0.9, include_clean=True)
    guard.invoke(question(), {"callbacks": [backend.handler]})
    guard.invoke(question(), {"callbacks": [backend.with_conventions()]})
    own, conventional = backend.spans
    assert not any(name.startswith("gen_ai.guardrail") for name in own.attributes or {})
    common = {
        "gen_ai.provider.name": "smoothguard",
        "gen_ai.guardrail.component.name": "SmoothGuard",
        "gen_ai.guardrail.policy.id": guard.config.settings_hash,
        "gen_ai.guardrail.policy.version": smoothguard_guardrail.__version__,
    }
    verdict = {
        "gen_ai.guardrail.result.type": "verdict",
        "gen_ai.guardrail.result.value": "abstained",
        "gen_ai.guardrail.result.reason": "No group of answers was large enough.",
    }
    expected = common | verdict | {"gen_ai.operation.name": "apply_guardrail"}
    assert conventional.name == "apply_guardrail SmoothGuard"
    assert expected.items() <= dict(conventional.attributes or {}).items()
    first, action, suspicion = backend.events("gen_ai.guardrail.result")
    assert first == common | verdict
    assert action["gen_ai.guardrail.result.value"] == "refused"
    assert suspicion["gen_ai.guardrail.risk.score"] == conventional.attributes["smoothguard.suspicion"]  # type: ignore[index]


def test_the_span_is_a_guardrail_of_openinference(backend: Backend) -> None:
    guard = guarded(ScriptedChatModel(script=["A cat."]))
    guard.invoke(question(), {"callbacks": [backend.handler]})
    guard.invoke(question(), {"callbacks": [backend.with_texts()]})
    silent, open_ = (dict(span.attributes or {}) for span in backend.spans)
    assert silent[SpanAttributes.OPENINFERENCE_SPAN_KIND] == OpenInferenceSpanKindValues.GUARDRAIL.value
    (medium,) = json.loads(str(silent[SpanAttributes.INPUT_VALUE]))["media"]
    assert (medium["kind"], len(medium["sha256"])) == ("image", 64)
    assert json.loads(str(silent[SpanAttributes.OUTPUT_VALUE]))["verdict"] == "passed"
    for kind in (SpanAttributes.INPUT_MIME_TYPE, SpanAttributes.OUTPUT_MIME_TYPE):
        assert silent[kind] == OpenInferenceMimeTypeValues.JSON.value
    assert (open_[SpanAttributes.OUTPUT_VALUE], open_[SpanAttributes.OUTPUT_MIME_TYPE]) == ("A cat.", "text/plain")


@pytest.mark.parametrize("record_samples", [False, True])
def test_no_text_and_no_medium_is_reported_under_any_name(backend: Backend, record_samples: bool) -> None:
    secret = "the vault code is 7391"
    config: Any = {"callbacks": [backend.with_conventions()], "metadata": {"note": secret}}
    guarded(ScriptedChatModel(script=[secret]), record_samples=record_samples).invoke(question(), config)
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError(secret)])).invoke(question(), config)
    reported = [span.to_json() for span in backend.spans]
    reported += [str(item.log_record.attributes) for item in backend.logs.get_finished_logs()]
    assert len(reported) > 4
    assert not any(text in one for one in reported for text in (secret, QUESTION, image_block()["base64"][:40]))
