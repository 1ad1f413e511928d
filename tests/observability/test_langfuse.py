"""Scores as Langfuse's own client sends them, received by a server on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from smoothguard_guardrail import MissingDependencyError, QuorumError
from smoothguard_guardrail.observability.langfuse import LangfuseHandler
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.collecting_server import Collector, Received, collecting_server
from tests.helpers import guarded, question

pytestmark = pytest.mark.server
SECRET = "the vault code is 7391"


class Service(NamedTuple):
    collector: Collector
    client: Langfuse
    tracer: CallbackHandler
    handler: LangfuseHandler

    @property
    def config(self) -> RunnableConfig:
        return {"callbacks": [self.tracer, self.handler]}

    def scores(self) -> list[dict[str, Any]]:
        self.client.flush()
        batches = [json.loads(request.body) for request in self.collector.to("/api/public/scores")]
        return [score for batch in batches for score in batch]

    def spans(self) -> dict[tuple[str, str], str]:
        """Return the names of observations by the ids of trace and observation."""
        self.client.flush()
        found = {}
        for request in self.collector.to("/api/public/otel/v1/traces"):
            body = gzip.decompress(request.body) if request.body[:2] == b"\x1f\x8b" else request.body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    found.update({(span.trace_id.hex(), span.span_id.hex()): span.name for span in scope.spans})
        return found


def accept(request: Received) -> tuple[int, Any]:
    """Answer as Langfuse does; it knows every image already and asks for none."""
    if request.path == "/api/public/media":
        return 200, {"mediaId": "known", "uploadUrl": None}
    return 201, {}


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with collecting_server(accept) as collector:
        provider = TracerProvider()
        client = Langfuse(public_key="pk", secret_key="sk", base_url=collector.url, tracer_provider=provider)
        tracer = CallbackHandler(public_key="pk")
        yield Service(collector, client, tracer, LangfuseHandler(tracer, client))
        client.shutdown()
        provider.shutdown()


@pytest.fixture
def service(running: Service) -> Service:
    running.client.flush()
    running.collector.received.clear()
    return running


@pytest.mark.parametrize("is_async", [False, True])
def test_the_guards_observation_gets_verdict_agreement_and_suspicion(service: Service, is_async: bool) -> None:
    script = ["The code is 7391.", "A cat.", "A cat.", "A cat."]
    guard = guarded(AsyncScriptedChatModel(script=script), include_clean=True, max_concurrency=1)
    chain = RunnableLambda(lambda request: request) | guard
    asyncio.run(chain.ainvoke(question(), service.config)) if is_async else chain.invoke(question(), service.config)
    verdict, agreement, suspicion = service.scores()
    assert (verdict["name"], verdict["value"], verdict["dataType"]) == ("smoothguard.verdict", "passed", "CATEGORICAL")
    assert verdict["comment"] == "The largest group of answers won."
    assert (agreement["name"], agreement["value"]) == ("smoothguard.agreement", 0.75)
    assert (suspicion["name"], suspicion["value"]) == ("smoothguard.suspicion", 0.5)
    spans = service.spans()
    scored = {(score["traceId"], score["observationId"]) for score in (verdict, agreement, suspicion)}
    assert [spans[ids] for ids in scored] == ["SmoothGuardRunnable"]


def test_failures_get_a_verdict_and_no_text_is_sent(service: Service) -> None:
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError(SECRET)])).invoke(question(), service.config)
    guarded(ScriptedChatModel(script=[SECRET])).invoke(question(), service.config)
    failed, *others = service.scores()
    assert (failed["value"], failed["comment"]) == ("failed", "QuorumError")
    assert len(others) == 2
    assert SECRET not in str([failed, *others])


def test_calls_that_are_not_traced_get_no_scores(service: Service) -> None:
    guarded(ScriptedChatModel(script=["A cat."])).invoke(question(), {"callbacks": [service.handler]})
    assert service.scores() == []


def test_a_service_that_refuses_never_breaks_a_call() -> None:
    with collecting_server(lambda _: (403, {})) as collector:
        provider = TracerProvider()
        client = Langfuse(public_key="pk2", secret_key="sk", base_url=collector.url, tracer_provider=provider)
        tracer = CallbackHandler(public_key="pk2")
        config: RunnableConfig = {"callbacks": [tracer, LangfuseHandler(tracer, client)]}
        guard = guarded(ScriptedChatModel(script=["A cat."]))
        assert [guard.invoke(question(), config).content for _ in range(3)] == ["A cat."] * 3
        client.shutdown()
        provider.shutdown()
        assert collector.to("/api/public/scores")


def test_without_langfuse_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setitem(sys.modules, "langfuse", None)
    with pytest.raises(MissingDependencyError, match=r"smoothguard-guardrail\[langfuse\]"):
        LangfuseHandler(service.tracer)
