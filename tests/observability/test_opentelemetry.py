"""Spans and metrics, read back from the SDK's in-memory exporters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from smoothguard_guardrail import MissingDependencyError, QuorumError
from smoothguard_guardrail.observability.opentelemetry import OpenTelemetryHandler
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import guarded, question

DISAGREEING = ["A cat.", "A dog.", "One sun.", "Two moons."]


class Backend(NamedTuple):
    handler: OpenTelemetryHandler
    tracer_provider: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

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
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    traces, meters = TracerProvider(), MeterProvider([reader])
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    yield Backend(OpenTelemetryHandler(tracer_provider=traces, meter_provider=meters), traces, exporter, reader)
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
