"""Feedback as LangSmith's own client sends it, received by a server on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from smoothguard_guardrail import QuorumError, SmoothGuardChatModel
from smoothguard_guardrail.observability import langsmith
from smoothguard_guardrail.observability.langsmith import LangSmithHandler
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.collecting_server import Collector, Received, collecting_server
from tests.helpers import components_of, config_of, guarded, question

pytestmark = pytest.mark.server
PROJECT_ID = uuid4()
BATCHES = {
    "use_multipart_endpoint": True,
    "size_limit": 100,
    "size_limit_bytes": 20 * 2**20,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 16,
    "scale_down_nempty_limit": 4,
}
SECRET = "the vault code is 7391"


class Service(NamedTuple):
    collector: Collector
    client: Client
    handler: LangSmithHandler

    def config(self, **more: Any) -> RunnableConfig:
        tracer = LangChainTracer(client=self.client, project_name="shop")
        return {"callbacks": [tracer, self.handler], **more}  # type: ignore[typeddict-item]

    def parts(self) -> list[tuple[str, Any]]:
        assert self.handler.flush(20)
        self.client.flush(timeout=20)
        return [item for request in self.collector.to("/runs/multipart") for item in request.parts.items()]

    def feedback(self) -> list[dict[str, Any]]:
        found = [value for name, value in self.parts() if name.startswith("feedback.")]
        return sorted(found, key=lambda feedback: feedback["created_at"])

    def runs(self) -> dict[str, str]:
        """Return names of runs by id."""
        found = [value for name, value in self.parts() if name.count(".") == 1 and name.startswith("post.")]
        return {run["id"]: run["name"] for run in found}


def describe(request: Received) -> tuple[int, Any]:
    if request.path.startswith("/sessions"):
        return 200, [{"id": str(PROJECT_ID), "name": "shop", "tenant_id": str(uuid4()), "reference_dataset_id": None}]
    if request.path == "/info":
        return 200, {"version": "0.12.0", "batch_ingest_config": BATCHES}
    return 202, {}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    with collecting_server(describe) as collector:
        client = Client(collector.url, api_key="key")
        yield Service(collector, client, LangSmithHandler(client, project_name="shop"))
        client.cleanup()


@pytest.mark.parametrize("is_async", [False, True])
def test_the_guards_run_gets_verdict_agreement_and_suspicion(service: Service, is_async: bool) -> None:
    script = ["The code is 7391.", "A cat.", "A cat.", "A cat."]
    guard = guarded(AsyncScriptedChatModel(script=script), include_clean=True, max_concurrency=1)
    chain = RunnableLambda(lambda request: request) | guard
    asyncio.run(chain.ainvoke(question(), service.config())) if is_async else chain.invoke(question(), service.config())
    verdict, agreement, suspicion = service.feedback()
    assert (verdict["key"], verdict["value"]) == ("smoothguard.verdict", "passed")
    assert verdict["comment"] == "The largest group of answers won."
    assert (agreement["key"], agreement["score"]) == ("smoothguard.agreement", 0.75)
    assert (suspicion["key"], suspicion["score"]) == ("smoothguard.suspicion", 0.5)
    assert {each["session_id"] for each in (verdict, agreement, suspicion)} == {str(PROJECT_ID)}
    names = service.runs()
    assert [names[each["run_id"]] for each in (verdict, agreement, suspicion)] == ["SmoothGuardRunnable"] * 3
    assert names[verdict["trace_id"]] == "RunnableSequence"


def test_a_guarded_chat_model_gets_feedback_on_its_own_run(service: Service) -> None:
    config = config_of(num_samples=4, refusal_share=0.6, min_agreement=0.0)
    model = SmoothGuardChatModel(ScriptedChatModel(script=["A cat."]), config=config, components=components_of())
    model.invoke(question(), service.config(run_id=(run := uuid4())))
    assert {UUID(each["run_id"]) for each in service.feedback()} == {run}


def test_failures_get_a_verdict_and_no_text_is_sent(service: Service) -> None:
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError(SECRET)])).invoke(question(), service.config())
    guarded(ScriptedChatModel(script=[SECRET])).invoke(question(), service.config())
    failed, *others = service.feedback()
    assert (failed["value"], failed["comment"]) == ("failed", "QuorumError")
    assert len(others) == 2
    assert SECRET not in str([failed, *others])


def test_calls_that_are_not_traced_get_no_feedback(service: Service) -> None:
    guarded(ScriptedChatModel(script=["A cat."])).invoke(question(), {"callbacks": [service.handler]})
    assert service.feedback() == []


def test_the_project_of_the_first_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")

    def describe_late(request: Received) -> tuple[int, Any]:
        is_unknown = request.path.startswith("/sessions") and not collector.to("/runs/multipart")
        return (200, []) if is_unknown else describe(request)

    with collecting_server(describe_late) as collector:
        client = Client(collector.url, api_key="key")
        service = Service(collector, client, LangSmithHandler(client, project_name="shop"))
        guarded(ScriptedChatModel(script=["A cat."])).invoke(question(), service.config())
        assert [each["key"] for each in service.feedback()] == ["smoothguard.verdict", "smoothguard.agreement"]
        client.cleanup()


def test_a_service_that_hangs_delays_no_call_and_a_full_queue_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_DISABLE_RUN_COMPRESSION", "true")
    monkeypatch.setattr(langsmith, "_MAX_WAITING", 2)
    released = threading.Event()

    def hang(request: Received) -> tuple[int, Any]:
        released.wait(60)
        return describe(request)

    with collecting_server(hang) as collector:
        client = Client(collector.url, api_key="key")
        service = Service(collector, client, LangSmithHandler(client, project_name="shop"))
        guard = guarded(ScriptedChatModel(script=["A cat."]))
        assert [guard.invoke(question(), service.config()).content for _ in range(5)] == ["A cat."] * 5
        lost = service.handler.lost
        assert lost in (2, 3)  # two calls wait, and one more where the thread has taken the first
        released.set()
        assert len(service.feedback()) == 2 * (5 - lost)
        client.cleanup()


def test_a_service_that_refuses_never_breaks_a_call(caplog: pytest.LogCaptureFixture) -> None:
    with collecting_server(lambda _: (403, {"detail": "no"})) as collector:
        client = Client(collector.url, api_key="key")
        handler = LangSmithHandler(client, project_name="shop")
        config: RunnableConfig = {"callbacks": [LangChainTracer(client=client), handler]}
        guard = guarded(ScriptedChatModel(script=["A cat."]))
        assert [guard.invoke(question(), config).content for _ in range(3)] == ["A cat."] * 3
        assert handler.flush(20)
        client.cleanup()
    assert handler.lost == 3
    (warning,) = [record for record in caplog.records if "could not be recorded" in record.getMessage()]
    assert "LangSmith" in warning.getMessage()
