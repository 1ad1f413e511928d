"""The gate that every request passes: API key, content type, size, concurrency, time; and error responses."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from smoothguard_guardrail.serving.anthropic_messages import errors as anthropic_errors
from smoothguard_guardrail.serving.clients import Clients, enter_client
from smoothguard_guardrail.serving.errors import ApiError, to_api_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from smoothguard_guardrail.observability.prometheus import Metrics
    from smoothguard_guardrail.serving.settings import ServerSettings

_logger = logging.getLogger(__name__)

PATHS_WITHOUT_KEY = frozenset({"/healthz", "/readyz"})
_DRAIN_SECONDS = 5.0
_CLIENT_GONE = 499
"""The usual status, in metrics only, of requests whose client disconnected."""


class Gate:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        settings: Limits and keys.
        metrics: Counts the requests.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._clients = Clients(settings.api_keys)
        self._hosts = settings.allowed_hosts
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        exchange = _Exchange(receive, send, self._settings)
        try:
            self._check(scope)
            if scope["method"] == "POST":
                await self._admit(scope, exchange)
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _CLIENT_GONE
        except Exception as error:
            await self._fail(error, scope, exchange)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, str(exchange.status or 500)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _host_name(headers) not in self._hosts:
            raise ApiError(
                403, "host_not_allowed", "this host name is not allowed; use one of the server's allowed hosts"
            )
        client = self._clients.find(_given_key(headers))
        if client is not None:
            enter_client(client)
        elif scope["path"] not in PATHS_WITHOUT_KEY:
            # Browsers that open a playground ask for a password; the API key is accepted as one.
            scheme = "Basic" if "text/html" in headers.get("accept", "") else "Bearer"
            challenge = {"www-authenticate": f'{scheme} realm="smoothguard"'}
            raise ApiError(
                401,
                "invalid_api_key",
                "a valid API key is required: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                headers=challenge,
            )
        if scope["method"] != "POST":
            return
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Browsers send other types across origins without a preflight request.
            raise ApiError(415, "invalid_request", "the content type must be application/json")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)

    async def _admit(self, scope: Scope, exchange: _Exchange) -> None:
        if self._in_flight >= self._settings.max_concurrency:
            retry = {"retry-after": str(self._settings.retry_after)}
            raise ApiError(429, "overloaded", "too many requests at once, try again later", headers=retry)
        self._add_in_flight(1)
        # Released with the last byte of the answer: the client may send its next request before this coroutine resumes.
        exchange.on_response_end.append(lambda: self._add_in_flight(-1))
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self._answer(scope, exchange)
        finally:
            exchange.end_response()

    def _add_in_flight(self, change: int) -> None:
        self._in_flight += change
        self._metrics.in_flight.set(self._in_flight)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        """Answer one request; stop if the client disconnects, because model calls cost money."""
        answering = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        watching = asyncio.ensure_future(exchange.wait_for_disconnect())
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and exchange.status is None:
                raise ClientDisconnect
            await answering
        finally:
            for task in (answering, watching):
                task.cancel()
            await asyncio.gather(answering, watching, return_exceptions=True)

    async def _fail(self, error: Exception, scope: Scope, exchange: _Exchange) -> None:
        failure = to_api_error(error)
        if failure.status >= 500:
            _logger.error("request %s, %r: %s", exchange.id, scope["path"], failure.code, exc_info=error)
        if exchange.status is not None:
            raise error
        await exchange.drain()
        is_anthropic = scope["path"].startswith(anthropic_errors.PATH)
        response = anthropic_errors.response_of(failure, exchange.id) if is_anthropic else failure.response()
        await response(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its response: counts received bytes and records the status."""

    def __init__(self, receive: Receive, send: Send, settings: ServerSettings) -> None:
        self.id = uuid4().hex
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._max_bytes = settings.max_body_bytes
        self._body_deadline = asyncio.get_running_loop().time() + settings.body_timeout
        self._received = 0
        self._is_complete = asyncio.Event()
        self.on_response_end: list[Callable[[], None]] = []

    async def receive(self) -> Message:
        message = await self._next()
        if self._received > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = headers["request-id"] = self.id  # the latter is what Anthropic's clients read
        elif not message.get("more_body", False):
            self.end_response()
        await self._send(message)

    def end_response(self) -> None:
        """Run the callbacks for the end of the response, once."""
        while self.on_response_end:
            self.on_response_end.pop()()

    async def wait_for_disconnect(self) -> None:
        """Wait until the client disconnects or has its response."""
        await self._is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def drain(self) -> None:
        """Read and discard the rest of the request: a client that is still sending would miss the response."""
        start = self._received
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_complete.is_set() and self._received - start <= self._max_bytes:
                    await self._next()
        except (TimeoutError, ApiError):
            pass

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(None if self._is_complete.is_set() else self._body_deadline):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(408, "body_timeout", "the body must arrive faster; send fewer or smaller media") from None
        self._received += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_complete.set()
        return message


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body must have at most {limit:,} bytes; send fewer or smaller media")


def _host_name(headers: Headers) -> str:
    """Return the name in `Host: NAME:PORT`, without the brackets of IPv6."""
    name = headers.get("host", "").lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def _given_key(headers: Headers) -> bytes:
    """Return the key in `Authorization: Bearer KEY`, in `X-API-Key`, or the password of Basic; b"" without one."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return headers.get("x-api-key", "").encode("latin-1")
