"""What every request passes: keys, limits, health, metrics, and how a server ends."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage
from pydantic import ValidationError

from smoothguard_guardrail import GuardComponents, SafetyLogHandler, SmoothGuardConfig, SmoothGuardRunnable, voting
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.serving import ServerSettings, create_app, gate
from smoothguard_guardrail.testing import AsyncScriptedChatModel, WordEmbeddings
from tests.media.corpus import pdf_bomb
from tests.serving.conftest import Serve
from tests.serving.servers import about_picture, get, post, running, url_of

pytestmark = pytest.mark.server
KEYS = ("first-key", "schlüssel")
HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}


def ask(url: str, body: Any = HELLO, **options: Any) -> httpx.Response:
    return post(f"{url}/v1/chat/completions", json=body, **options)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_key_opens_every_route_and_nothing_else_does(serve: Serve, model: AsyncScriptedChatModel) -> None:
    url = serve(api_keys=KEYS)
    for path in ("/v1/models", "/metrics", "/guards/scripted/playground/", "/guards/scripted/input_schema", "/", "/x"):
        assert get(url + path).status_code == 401
        assert get(url + path, headers={"x-api-key": "first-key"}).status_code != 401
    wrong: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer first-keys"},
        {"authorization": "Basic first-key"},
        {"authorization": "first-key"},
        {"x-api-key": ""},
    ]
    for headers in wrong:
        answer = ask(url, headers=headers)
        assert (answer.status_code, code(answer)) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert post(f"{url}/guards/scripted/invoke", json={"input": "Hi."}, headers=headers).status_code == 401
    assert model.received == []
    assert ask(url, headers={"authorization": "Bearer first-key"}).status_code == 200
    assert ask(url, headers={"authorization": "bearer schlüssel".encode()}).status_code == 200
    assert ask(url, auth=("anyone", "first-key")).status_code == 200
    page = get(f"{url}/guards/scripted/playground/", headers={"accept": "text/html"})
    assert page.headers["www-authenticate"].startswith("Basic")
    for path in ("/healthz", "/readyz"):
        assert get(url + path).status_code in (200, 503)


def test_too_many_parts_are_a_413(serve: Serve, model: AsyncScriptedChatModel) -> None:
    parts = [{"type": "text", "text": "x"}] * 50_000
    url = serve()
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/guards/scripted/invoke"):
        told = post(url + path, json=HELLO | {"messages": [{"role": "user", "content": parts}]})
        assert told.status_code == 413
        assert "send fewer parts" in told.text
    assert not model.received


def test_body_over_the_limit_is_a_413(serve: Serve, model: AsyncScriptedChatModel) -> None:
    url = serve(max_body_bytes=2000)
    big = HELLO | {"user": "x" * 2000}
    told = ask(url, big)
    assert (told.status_code, code(told)) == (413, "body_too_large")
    streamed = _pieces(json.dumps(HELLO | {"user": "x" * 1_000_000}))
    for path in ("/v1/chat/completions", "/guards/scripted/invoke", "/guards/scripted/batch"):
        answer = post(url + path, content=streamed, headers={"content-type": "application/json"})
        assert (answer.status_code, code(answer)) == (413, "body_too_large")
        streamed = _pieces("{" * 1_000_000)
    assert model.received == []
    assert ask(url).status_code == 200


def _pieces(text: str) -> Iterator[bytes]:
    for start in range(0, len(text), 10_000):
        yield text[start : start + 10_000].encode()


def test_other_content_types_are_a_415(serve: Serve, model: AsyncScriptedChatModel) -> None:
    url = serve()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = post(f"{url}/guards/scripted/invoke", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415
    assert model.received == []


def test_a_request_above_the_limit_is_a_429(serve: Serve, model: AsyncScriptedChatModel) -> None:
    blocked, release = threading.Barrier(3), threading.Event()

    def wait(_: Any) -> str:
        blocked.wait(10)
        release.wait(10)
        return "Done."

    model.script = wait
    url = serve(max_concurrency=2, retry_after=7, chains={"slow": _threaded(wait)})
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(post, f"{url}/chains/slow/invoke", json={"input": "Hi."}) for _ in range(2)]
        blocked.wait(10)
        for path in ("/v1/chat/completions", "/guards/scripted/invoke", "/chains/slow/batch"):
            answer = post(url + path, json={})
            assert (answer.status_code, code(answer)) == (429, "overloaded")
            assert answer.headers["retry-after"] == "7"
        assert "smoothguard_requests_in_flight 2.0" in get(f"{url}/metrics").text
        assert get(f"{url}/healthz").status_code == 200
        release.set()
        assert [each.result().status_code for each in first] == [200, 200]
    assert "smoothguard_requests_in_flight 0.0" in get(f"{url}/metrics").text
    model.script = ["Hi."]
    assert post(f"{url}/guards/scripted/invoke", json={}).status_code == 422


def _threaded(function: Any) -> Any:
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(function)


def test_slow_answer_is_a_504(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.delay = 30
    url = serve(request_timeout=0.3)
    for _ in range(2):
        answer = ask(url, HELLO | {"messages": about_picture(picture)})
        assert (answer.status_code, code(answer)) == (504, "timeout")
    assert post(f"{url}/guards/scripted/stream", json={"input": "Hi."}).status_code == 504
    assert "smoothguard_requests_in_flight 0.0" in get(f"{url}/metrics").text


def test_a_client_that_disconnects_stops_its_request(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.delay = 60
    url = serve(config={"max_concurrency": 1})
    body = HELLO | {"messages": about_picture(picture)}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/chat/completions", json=body, timeout=1)
    line = 'smoothguard_http_requests_total{route="/v1/chat/completions",status="499"} 1.0'
    while line not in get(f"{url}/metrics").text:
        pass
    assert "smoothguard_requests_in_flight 0.0" in get(f"{url}/metrics").text
    assert len(model.received) == 1


def test_a_body_that_never_ends_releases_its_slot(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_DRAIN_SECONDS", 0.1)
    url = serve(request_timeout=2, max_concurrency=1)
    host, port = url.removeprefix("http://").split(":")
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as stalled:
        stalled.sendall(head.encode() + b"content-length: 99\r\n\r\n{")
        assert stalled.recv(100).startswith(b"HTTP/1.1 504")
    assert ask(url).status_code == 200


def test_other_host_names_are_rejected(serve: Serve, model: AsyncScriptedChatModel) -> None:
    url = serve(allowed_hosts=("127.0.0.1", "::1", "localhost"))
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]:80"):
        answer = ask(url, headers={"host": host})
        assert (answer.status_code, code(answer)) == (403, "host_not_allowed")
    assert model.received == []
    for host in ("localhost:8000", "[::1]:8000", "[::1]", "LOCALHOST"):
        assert ask(url, headers={"host": host}).status_code == 200


def test_framework_errors_have_the_same_format(serve: Serve) -> None:
    url = serve()
    assert code(get(f"{url}/nothing")) == "not_found"
    assert code(get(f"{url}/v1/chat/completions")) == "method_not_allowed"
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert get(url + path).status_code == 404
    for bad in (b"", b"{", b"\xff", b"[" * 100_000, b"[]", b"null"):
        answer = post(f"{url}/v1/chat/completions", content=bad, headers={"content-type": "application/json"})
        assert (answer.status_code, code(answer)) == (400, "invalid_request")
        assert len(answer.headers["x-request-id"]) == 32


def test_bugs_are_a_500_without_internals(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> str:
        raise KeyError("/etc/passwd")

    answer = post(f"{serve(chains={'broken': _threaded(broken)})}/chains/broken/invoke", json={"input": "Hi."})
    assert (answer.status_code, code(answer)) == (500, "internal_error")
    assert "passwd" not in answer.text
    assert answer.headers["x-request-id"] in caplog.text
    assert "passwd" in caplog.text


def test_metrics_count_what_happened(serve: Serve, model: AsyncScriptedChatModel, picture: str) -> None:
    model.script = ["One.", "One.", "Two.", "One."]
    url = serve(config={"min_agreement": 0.9, "include_clean": True})
    ask(url, HELLO | {"messages": about_picture(picture)})
    post(f"{url}/guards/scripted/batch", json={"inputs": ["Hi.", "Hi."]})
    ask(url, HELLO | {"messages": [{"role": "user", "content": [{"type": "x"}]}]})
    text = get(f"{url}/metrics").text
    for line in (
        'smoothguard_verdicts_total{verdict="abstained"} 1.0',
        'smoothguard_verdicts_total{verdict="passed"} 0.0',
        'smoothguard_verdicts_total{verdict="skipped"} 2.0',
        'smoothguard_agreement_bucket{le="0.8"} 1.0',
        "smoothguard_agreement_sum 0.75",
        "smoothguard_model_calls_total 6.0",
        'smoothguard_failures_total{error="UnsupportedMediaError"} 1.0',
        'smoothguard_http_requests_total{route="/v1/chat/completions",status="200"} 1.0',
        'smoothguard_http_requests_total{route="/v1/chat/completions",status="400"} 1.0',
        'smoothguard_http_request_seconds_count{route="/guards/scripted/batch"} 1.0',
    ):
        assert line in text.splitlines()


def test_safety_log_gets_every_guarded_call(serve: Serve, tmp_path: Path, picture: str) -> None:
    log = tmp_path / "log.jsonl"
    url = serve(callbacks=[SafetyLogHandler(log)])
    ask(url, HELLO | {"messages": about_picture(picture)})
    post(f"{url}/guards/scripted/invoke", json={"input": "Hi."})
    assert [json.loads(line)["verdict"] for line in log.read_text().splitlines()] == ["passed", "skipped"]


def test_figures_and_log_name_the_client_of_a_key(
    serve: Serve, model: AsyncScriptedChatModel, tmp_path: Path, picture: str
) -> None:
    model.script = [AIMessage("Hi.", usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10})]
    log = tmp_path / "log.jsonl"
    keys = {"alice": "key-1", "bob": ["key-2", "key-3"], "default": "key-4"}
    url = serve(api_keys=keys, callbacks=[SafetyLogHandler(log)], chains={"chain": SmoothGuardRunnable(model)})
    spoof = {"metadata": {"client": "bob"}, "user": "bob", "smoothguard_client": "bob"}
    for key, path, body in (
        ("key-1", "/v1/chat/completions", HELLO | spoof | {"messages": about_picture(picture)}),
        ("key-2", "/v1/messages", HELLO | {"max_tokens": 9, "metadata": {"user_id": "alice"}}),
        ("key-3", "/guards/scripted/invoke", {"input": "Hi.", "config": {"metadata": {"client": "alice"}}}),
        ("key-4", "/chains/chain/batch", {"inputs": ["Hi."], "config": {"metadata": {"client": "alice"}}}),
    ):
        assert post(url + path, json=body, headers={"x-api-key": key, "x-client": "eve"}).status_code == 200
    assert ask(url, {**HELLO, "messages": [{"role": "user", "content": [{"type": "x"}]}]}, auth=("", "key-1")).is_error
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["metadata"]["client"] for line in lines] == ["alice", "bob", "bob", "default", "alice"]
    assert [line["metadata"]["model"] for line in lines] == ["scripted", "scripted", "scripted", "chain", "scripted"]
    figures = get(f"{url}/metrics", headers={"x-api-key": "key-4"}).text
    counted = [
        line
        for line in figures.splitlines()
        if line.startswith("smoothguard_client") and "_created" not in line and not line.endswith(" 0.0")
    ]
    assert sorted(counted) == [
        'smoothguard_client_calls_total{client="alice",verdict="failed"} 1.0',
        'smoothguard_client_calls_total{client="alice",verdict="passed"} 1.0',
        'smoothguard_client_calls_total{client="bob",verdict="skipped"} 2.0',
        'smoothguard_client_calls_total{client="default",verdict="skipped"} 1.0',
        'smoothguard_client_tokens_total{client="alice",direction="input"} 28.0',
        'smoothguard_client_tokens_total{client="alice",direction="output"} 12.0',
        'smoothguard_client_tokens_total{client="bob",direction="input"} 14.0',
        'smoothguard_client_tokens_total{client="bob",direction="output"} 6.0',
        'smoothguard_client_tokens_total{client="default",direction="input"} 7.0',
        'smoothguard_client_tokens_total{client="default",direction="output"} 3.0',
    ]
    assert "key-" not in figures + log.read_text()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_a_medium_beside_the_messages_is_refused_without_being_drawn(serve: Serve, path: str) -> None:
    url = serve()
    drawn_for_days = f"data:application/pdf;base64,{base64.b64encode(pdf_bomb('forms')).decode()}"
    asks = {"input": "Hi"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "Hi"}]}
    asks |= {"max_tokens": 9} if path == "/v1/messages" else {}
    body = {"model": "scripted", "metadata": {"a": drawn_for_days}} | asks
    with ThreadPoolExecutor() as pool:
        refused = pool.submit(httpx.post, f"{url}{path}", json=body, timeout=10)  # to draw it takes longer
        others = [get(f"{url}/healthz").status_code]
        while not refused.done():
            others.append(get(f"{url}/healthz").status_code)
    assert refused.result().status_code == 400
    assert "metadata must hold no medium" in refused.result().text
    assert set(others) == {200}, "the server answers others meanwhile"


def test_readiness_waits_for_the_embedder(model: AsyncScriptedChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()

    def slow() -> WordEmbeddings:
        loaded.wait(10)
        return WordEmbeddings()

    monkeypatch.setattr(voting, "default_embedder", slow)
    with running(create_app({"scripted": SmoothGuardRunnable(model, SmoothGuardConfig.paper())})) as server:
        url = url_of(server)
        assert get(f"{url}/readyz").json() == {"status": "starting"}
        assert get(f"{url}/healthz").json() == {"status": "ok"}
        loaded.set()
        assert _becomes(url, "ready") == 200


def test_a_server_without_its_embedder_never_becomes_ready(
    model: AsyncScriptedChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> WordEmbeddings:
        raise ConfigurationError("no weights")

    monkeypatch.setattr(voting, "default_embedder", missing)
    with running(create_app({"scripted": SmoothGuardRunnable(model, SmoothGuardConfig.paper())})) as server:
        assert _becomes(url_of(server), "failed") == 503
    with running(create_app({"scripted": SmoothGuardRunnable(model)})) as server:  # its vote embeds nothing
        assert _becomes(url_of(server), "ready") == 200


def _becomes(url: str, status: str) -> int:
    for _ in range(1000):
        answer = get(f"{url}/readyz")
        if answer.json()["status"] == status:
            return answer.status_code
    raise AssertionError(f"never {status}")


def test_shutdown_finishes_running_requests(model: AsyncScriptedChatModel, picture: str) -> None:
    model.delay = 0.7
    app = create_app({"scripted": SmoothGuardRunnable(model, components=GuardComponents(embedder=WordEmbeddings()))})
    with ThreadPoolExecutor(1) as pool:
        with running(app) as server:
            url = url_of(server)
            answer = pool.submit(ask, url, HELLO | {"messages": about_picture(picture)})
            while not model.received:
                pass
        assert answer.result().status_code == 200
        with pytest.raises(httpx.ConnectError):
            ask(url)


def test_bad_settings_are_rejected() -> None:
    with pytest.raises(ValidationError):
        ServerSettings(max_concurrency=0)
    settings = ServerSettings(api_keys=KEYS)  # type: ignore[arg-type]
    assert list(settings.api_keys) == ["default"]
    assert "first-key" not in repr(settings)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ((" ",), "empty"),
        ({"alice": "s3cret", "bob": ""}, "empty"),
        ({"alice": "s3cret", "bob": ("x", "s3cret")}, "one client"),
        ({'al"ice': "s3cret"}, "named with"),
        ({"a" * 65: "s3cret"}, "named with"),
        ({"alice": ["s3cret", 7]}, "string"),
    ],
)
def test_bad_keys_are_rejected_without_showing_them(keys: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as caught:
        ServerSettings(api_keys=keys)
    assert "s3cret" not in str(caught.value)
