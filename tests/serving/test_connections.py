"""Clients that are slow, or open too many connections, over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from smoothguard_guardrail import GuardComponents, SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, connection_protocol, connections, create_app
from smoothguard_guardrail.testing import AsyncScriptedChatModel, WordEmbeddings
from tests.serving.servers import get, running, url_of

pytestmark = pytest.mark.server
HELLO = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@contextmanager
def bounded(model: AsyncScriptedChatModel, **limits: Any) -> Iterator[uvicorn.Server]:
    settings = ServerSettings(**limits)
    guard = SmoothGuardRunnable(model, components=GuardComponents(embedder=WordEmbeddings()))
    with running(create_app({"scripted": guard}, settings=settings), http=connection_protocol(settings)) as server:
        yield server


def connect(server: uvicorn.Server) -> socket.socket:
    return socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=20)


def rest_of(connection: socket.socket) -> bytes:
    """What the server sends before it closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def trickle(connection: socket.socket, text: bytes) -> bytes:
    """Send a byte every now and then until the server closes the connection."""
    connection.settimeout(0.05)
    received = b""
    for index in range(400):
        try:
            connection.sendall(text[index % len(text) :][:1])
            piece = connection.recv(65536)
            received += piece
            if not piece:
                return received
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return received
    raise AssertionError("the connection stayed open")


def test_unfinished_headers_do_not_stay_open(model: AsyncScriptedChatModel) -> None:
    with bounded(model, header_timeout=1, max_connections_per_client=100) as server, ExitStack() as stack:
        slow = []
        for _ in range(300):
            slow.append(stack.enter_context(connect(server)))
            slow[-1].sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")
        assert get(f"{url_of(server)}/healthz").status_code == 200
        answers = [rest_of(connection) for connection in slow]
        assert sum(answer.startswith(b"HTTP/1.1 408") for answer in answers) <= 100
        assert all(answer.startswith((b"HTTP/1.1 408", b"HTTP/1.1 429")) or not answer for answer in answers)
        assert get(f"{url_of(server)}/healthz").status_code == 200


def test_header_deadline_is_not_moved_by_a_trickle(model: AsyncScriptedChatModel) -> None:
    with bounded(model, header_timeout=0.5) as server:
        with connect(server) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")
            assert trickle(connection, b"a").startswith(b"HTTP/1.1 408")
        with connect(server) as silent:
            assert rest_of(silent) == b""
        with connect(server) as second:
            second.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert second.recv(65536).startswith(b"HTTP/1.1 200")
            second.sendall(b"GET /healthz HTTP/1.1\r\nx-slow: ")
            assert b"HTTP/1.1 408" in trickle(second, b"a")


def test_slow_body_is_a_408_and_ends(model: AsyncScriptedChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_GRACE_SECONDS", 0.5)
    with bounded(model, body_timeout=0.5, max_concurrency=1) as server:
        with connect(server) as connection:
            connection.sendall(HEAD + b"content-length: 9999\r\n\r\n{")
            answer = trickle(connection, b" ")
            assert answer.startswith(b"HTTP/1.1 408")
            assert b"body_timeout" in answer
        with connect(server) as unread:  # the answer does not need the body
            unread.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n")
            assert trickle(unread, b" ").startswith(b"HTTP/1.1 200")
        assert (
            httpx.post(f"{url_of(server)}/v1/chat/completions", json=json.loads(HELLO), timeout=60).status_code == 200
        )
        assert len(model.received) == 1


def test_slow_answers_and_reused_connections_are_fine(
    model: AsyncScriptedChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_GRACE_SECONDS", 0.5)
    model.delay = 1.5  # longer than the time for headers, and than that for a body
    request = HEAD + f"content-length: {len(HELLO)}\r\n\r\n".encode() + HELLO
    with (
        bounded(model, header_timeout=0.5, body_timeout=0.5) as server,
        httpx.Client(timeout=60) as client,
        connect(server) as pipelining,
    ):
        pipelining.sendall(request + request.replace(b"host: x", b"host: x\r\nconnection: close"))
        for pause in (0.8, 0):
            answer = client.post(f"{url_of(server)}/v1/chat/completions", json=json.loads(HELLO))
            assert answer.status_code == 200
            time.sleep(pause)
        assert rest_of(pipelining).count(b"HTTP/1.1 200") == 2


REQUEST = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
LAST_REQUEST = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def test_one_connection_above_the_limit_is_a_429(model: AsyncScriptedChatModel) -> None:
    with bounded(model, max_connections_per_client=2) as server:
        with connect(server) as first, connect(server) as second:
            for each in (first, second):
                each.sendall(REQUEST)
                assert each.recv(65536).startswith(b"HTTP/1.1 200")
            with connect(server) as third:
                assert rest_of(third).startswith(b"HTTP/1.1 429")
            first.sendall(LAST_REQUEST)
            assert b"HTTP/1.1 200" in rest_of(first)
            assert get(f"{url_of(server)}/healthz").status_code == 200
        for _ in range(20):
            with connect(server) as again:
                again.sendall(LAST_REQUEST)
                assert rest_of(again).startswith(b"HTTP/1.1 200")


def test_unfinished_requests_make_room(model: AsyncScriptedChatModel) -> None:
    with (
        bounded(model, max_connections_per_client=2) as server,
        connect(server) as oldest,
        connect(server) as other,
    ):
        for each in (oldest, other):
            each.sendall(b"GET ")
        with connect(server) as third:
            third.sendall(LAST_REQUEST)
            assert rest_of(third).startswith(b"HTTP/1.1 200")
        assert rest_of(oldest).startswith(b"HTTP/1.1 429")
        other.sendall(LAST_REQUEST.removeprefix(b"GET "))
        assert rest_of(other).startswith(b"HTTP/1.1 200")
