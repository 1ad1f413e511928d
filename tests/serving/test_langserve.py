"""Our server under `RemoteRunnable`, and under clients that try to turn the guard down."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import JsonOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langserve import RemoteRunnable
from langserve.lzstring import LZString

from chains.visual_question_answering import build_chain
from smoothguard_guardrail import GuardComponents, SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.testing import AsyncScriptedChatModel, WordEmbeddings
from tests.serving.conftest import Serve
from tests.serving.servers import get, post

pytestmark = pytest.mark.server
STATUS = httpx.HTTPStatusError


def question(picture: str) -> list[HumanMessage]:
    image = {"type": "image", "base64": picture, "mime_type": "image/png"}
    return [HumanMessage([{"type": "text", "text": "What is it?"}, image])]


def wire(picture: str) -> list[dict[str, Any]]:
    return [message.model_dump() for message in question(picture)]


def test_guard_answers_invoke_batch_and_stream(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    remote: Any = RemoteRunnable(f"{serve(record='full')}/guards/scripted")
    answer = remote.invoke(question(picture))
    assert isinstance(answer, AIMessage)
    assert answer.content == "A grey square."
    assert answer.response_metadata["smoothguard"]["num_calls"] == 4
    answers = remote.batch([question(picture), "Hi.", ChatPromptTemplate([("human", "Hi.")]).invoke({})])
    verdicts = [each.response_metadata["smoothguard"]["verdict"] for each in answers]
    assert verdicts == ["passed", "skipped", "skipped"]
    (chunk,) = remote.stream(question(picture))
    assert chunk.content == "A grey square."
    sent = [block for messages in model.received for block in messages[0].content_blocks if block["type"] == "image"]
    assert len(sent) == 12
    assert picture not in [block["base64"] for block in sent]


async def test_chain_answers_async_and_in_the_run_log(serve: Serve, picture: str) -> None:
    chain = build_chain(AsyncScriptedChatModel(script=["A grey square."]))
    remote: Any = RemoteRunnable(f"{serve(chains={'pictures': chain})}/chains/pictures")
    given = {"image": picture, "mime_type": "image/png", "question": "What is it?"}
    assert await remote.ainvoke(given) == "A grey square."
    assert await remote.abatch([given, given]) == ["A grey square."] * 2
    assert [chunk async for chunk in remote.astream(given)] == ["A grey square."]
    log = None
    async for patch in remote.astream_log(given):
        log = patch if log is None else log + patch
    assert log is not None
    assert log.state["final_output"] == "A grey square."
    assert log.state["logs"] == {}


INJECTIONS: list[dict[str, Any]] = [
    {"num_samples": 1, "sigma": 1e-9, "on_unsupported": "pass"},
    {"callbacks": [{"on_chain_start": "x"}], "callback_manager": "x"},
    {"metadata": {"num_samples": 1, "smoothguard": {"verdict": "passed"}}, "tags": ["nostream", "smoothguard:sample"]},
    {"max_concurrency": 1, "recursion_limit": 1, "run_name": "x", "run_id": "00000000-0000-0000-0000-000000000000"},
    {"configurable": {"num_samples": 1, "config": {"sigma": 1e-9}, "model": "x"}},
]


@pytest.mark.parametrize("config", INJECTIONS, ids=lambda config: "-".join(config))
def test_configuration_of_the_client_changes_nothing(
    serve: Serve, model: AsyncScriptedChatModel, picture: str, config: dict[str, Any]
) -> None:
    seen = Seeing()
    model.delay = 0.05
    url = serve(callbacks=[seen])
    kwargs = {"num_samples": 1, "stop": ["A"], "config": {"num_samples": 1}}
    routes = ["invoke", "batch", "stream", "stream_log"]
    for route in routes:
        body: dict[str, Any] = {"inputs": [wire(picture)]} if route == "batch" else {"input": wire(picture)}
        answer = post(f"{url}/guards/scripted/{route}", json=body | {"config": config, "kwargs": kwargs})
        assert answer.status_code == 200
        assert "A grey square." in answer.text
    assert len(model.received) == 4 * len(routes)
    assert not any(picture in str(messages) for messages in model.received)
    assert model.peak_concurrency == 4
    assert {tag for tags in model.received_tags for tag in tags} >= {"nostream", "smoothguard:sample"}
    assert "num_samples" not in str(seen.metadata)
    assert seen.names == ["/guards/scripted"] * len(routes)


class Seeing(BaseCallbackHandler):
    """Notes the outermost runs."""

    def __init__(self) -> None:
        self.metadata: list[Any] = []
        self.names: list[str] = []

    def on_chain_start(self, *args: Any, parent_run_id: Any = None, metadata: Any = None, **kwargs: Any) -> None:
        self.metadata.append(metadata)
        if parent_run_id is None:
            self.names.append(kwargs["name"])


def test_urls_with_configuration_do_not_exist(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    url = f"{serve()}/guards/scripted"
    schema = get(f"{url}/config_schema").json()
    assert "configurable" not in schema.get("properties", {})
    link = LZString.compressToEncodedURIComponent('{"configurable": {"num_samples": 1}}')
    assert post(f"{url}/c/{link}/invoke", json={"input": wire(picture)}).status_code == 404
    assert model.received == []


@pytest.mark.parametrize("route", ["stream_events", "feedback", "token_feedback", "public_trace_link"])
def test_routes_that_show_samples_do_not_exist(serve: Serve, picture: str, route: str) -> None:
    answer = post(f"{serve()}/guards/scripted/{route}", json={"input": wire(picture)})
    assert answer.status_code == 404


def test_losing_samples_and_failures_stay_inside(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    lost = RuntimeError("key sk-secret refused")
    model.script = ["A grey square.", "The launch code is 0000.", lost, "A grey square."]
    url = serve(config={"record_samples": True})
    for route in ("invoke", "stream", "stream_log"):
        answer = post(f"{url}/guards/scripted/{route}", json={"input": wire(picture)})
        assert "A grey square." in answer.text
        assert "launch" not in answer.text
        assert "secret" not in answer.text


def test_failures_have_a_status_on_every_route(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = [RuntimeError("key sk-secret refused")]
    url = f"{serve()}/guards/scripted"
    remote: Any = RemoteRunnable(url)
    film = [
        HumanMessage([{"type": "video", "base64": "GkXfo0AgQoaBAUL3gQFC8oEEQvOBCEKCQAR3", "mime_type": "video/webm"}])
    ]
    for call in (remote.invoke, lambda given: remote.batch([given]), lambda given: list(remote.stream(given))):
        with pytest.raises(STATUS, match="502") as caught:
            call(question(picture))
        assert "secret" not in str(caught.value)
        with pytest.raises(STATUS, match="400"):
            call(film)
    with pytest.raises(STATUS, match=r"messages\[0\].content\[0\]"):
        remote.invoke(film)
    assert post(f"{url}/stream_log", json={"input": wire(picture)}).status_code == 502
    error = post(f"{url}/invoke", json={"input": {"no": "messages"}}).json()["error"]
    assert error["code"] == "invalid_request"
    for bad in (b"{", b"\xff", b"[" * 100_000):
        answer = post(f"{url}/invoke", content=bad, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_policy_answers_with_a_refusal(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = [RuntimeError("down")]
    guard = SmoothGuardRunnable(model, components=GuardComponents(embedder=WordEmbeddings()))
    text: Any = build_chain(model)
    parsed: Any = guard | JsonOutputParser()
    url = serve(chains={"pictures": text, "parsed": parsed}, on_failure="refuse", refusal_text="Not now.")
    remote: Any = RemoteRunnable(f"{url}/guards/scripted")
    assert remote.invoke(question(picture)).content == "Not now."
    assert [answer.content for answer in remote.batch([question(picture), "Hi."])] == ["Not now."] * 2
    assert [chunk.content for chunk in remote.stream(question(picture))] == ["Not now."]
    chain: Any = RemoteRunnable(f"{url}/chains/pictures")
    assert chain.invoke({"image": picture, "mime_type": "image/png", "question": "What?"}) == "Not now."
    with pytest.raises(STATUS, match="500"):  # a text would be no output of this chain
        RemoteRunnable(f"{url}/chains/parsed").invoke("Hi.")


def test_batch_has_a_limit_and_is_checked_first(serve: Serve, model: AsyncScriptedChatModel) -> None:
    url = f"{serve(max_batch=2, batch_concurrency=1)}/guards/scripted/batch"
    assert post(url, json={"inputs": ["Hi."] * 3}).status_code == 413
    for inputs in ("Hi.", [{"x": 1}], None):
        assert post(url, json={"inputs": inputs}).status_code == 422
    assert post(url, json=[1]).status_code == 422
    assert model.received == []
    assert post(url, json={"inputs": ["Hi."] * 2}).status_code == 200
    assert model.peak_concurrency == 1


def test_input_that_fails_in_a_batch_fails_alone(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    url = serve(chains={"pictures": build_chain(model)})
    film = [{"type": "human", "content": [{"type": "x"}]}]
    answer = post(f"{url}/guards/scripted/batch", json={"inputs": [wire(picture), film, {"no": 1}, "Hi."]})
    first, unsupported, invalid, last = answer.json()["output"]
    assert [first["content"], last["content"]] == ["A grey square."] * 2
    assert unsupported["error"]["code"] == "media_error"
    assert "messages[0].content[0]" in unsupported["error"]["message"]
    assert invalid["error"]["code"] == "invalid_request"
    assert len(answer.json()["metadata"]["run_ids"]) == 4
    remote: Any = RemoteRunnable(f"{url}/guards/scripted")
    guarded, failed = remote.batch([question(picture), [HumanMessage([{"type": "x"}])]])
    assert (guarded.content, failed["error"]["code"]) == ("A grey square.", "media_error")
    good = {"image": picture, "mime_type": "image/png", "question": "What is it?"}
    texts = RemoteRunnable(f"{url}/chains/pictures").batch([good, good | {"image": "AAAA"}])  # type: ignore[var-annotated]
    assert (texts[0], texts[1]["error"]["code"]) == ("A grey square.", "media_error")


def test_model_that_fails_on_one_input_of_a_batch(serve: Serve, model: AsyncScriptedChatModel) -> None:
    def reply(messages: Any) -> str:
        if messages[0].text == "bad":
            raise RuntimeError("key sk-secret refused")
        return "Hello."

    model.script = reply
    url = f"{serve()}/guards/scripted/batch"
    answer = post(url, json={"inputs": ["bad", "Hi."]})
    failed, told = answer.json()["output"]
    assert (failed["error"]["code"], told["content"]) == ("upstream_error", "Hello.")
    assert "secret" not in answer.text
    assert post(url, json={"inputs": ["bad", "bad"]}).status_code == 502
    assert post(url, json={"inputs": []}).json()["output"] == []


def test_timeout_ends_all_of_a_batch(serve: Serve) -> None:
    ended: list[str] = []

    async def one(text: str) -> str:
        try:
            await asyncio.sleep(0 if text == "fast" else 30)
            return text
        finally:
            ended.append(text)

    url = serve(chains={"one": RunnableLambda(one)}, batch_concurrency=2, request_timeout=0.5)
    answer = post(f"{url}/chains/one/batch", json={"inputs": ["slow", "fast", "slow", "never"]})
    assert answer.status_code == 504
    assert sorted(ended) == ["fast", "slow", "slow"]


def test_form_accepts_images_and_audio(
    serve: Serve, model: AsyncScriptedChatModel, picture: str, recording: str
) -> None:
    url = f"{serve()}/forms/scripted"
    for file, kind, calls in ((picture, "image", 4), (recording, "audio", 4), ("", "text", 1)):
        answer = post(f"{url}/invoke", json={"input": {"file": file, "question": "What is it?"}})
        assert answer.json()["output"] == "A grey square."
        assert [messages[0].content_blocks[0]["type"] for messages in model.received] == [kind] * calls
        assert not file or file not in str(model.received)
        model.received.clear()
    for file in ("%%%", "JVBERi0xLjQK"):  # no base64, a PDF
        assert post(f"{url}/invoke", json={"input": {"file": file}}).status_code == 400
    assert model.received == []
    assert "base64file" in get(f"{url}/playground/").text


def test_names_do_not_collide(model: AsyncScriptedChatModel, serve: Serve) -> None:
    other = SmoothGuardRunnable(model, config=SmoothGuardConfig(num_samples=2))
    url = serve(chains={"scripted": other, "a-b": other, "a_b": other})
    for path in ("guards/scripted", "chains/scripted", "chains/a-b", "chains/a_b"):
        assert post(f"{url}/{path}/invoke", json={"input": "Hi."}).json()["output"]["content"] == "A grey square."
        for schema in ("input_schema", "output_schema"):
            assert get(f"{url}/{path}/{schema}").status_code == 200
