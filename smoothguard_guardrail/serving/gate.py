"""What every request passes: API key, content type, size, concurrency, time; and how failures leave."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from smoothguard_guardrail.serving.errors import ApiError, api_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from smoothguard_guardrail.observability.prometheus import Metrics
    from smoothguard_guardrail.serving.settings import ServerSettings

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_DRAIN_SECONDS = 5.0
_CLIENT_GONE = 499
"""As servers count requests whose client hung up; nobody receives it."""


class Gate:
    """ASGI middleware around the whole application.

    Args:
        app: The application.
        settings: Limits and keys.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._keys = [key.get_secret_value().encode() for key in settings.api_keys]
        self._hosts = settings.allowed_hosts
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        exchange = _Exchange(receive, send, self._settings.max_body_bytes)
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
            raise ApiError(403, "host_not_allowed", "the server does not answer under this host name")
        if self._keys and scope["path"] not in OPEN_PATHS and not self._is_known(headers):
            # Browsers that open a playground ask for a password; the key is one.
            scheme = "Basic" if "text/html" in headers.get("accept", "") else "Bearer"
            challenge = {"www-authenticate": f'{scheme} realm="smoothguard"'}
            raise ApiError(401, "invalid_api_key", "a valid API key is needed", headers=challenge)
        if scope["method"] != "POST":
            return
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Other types cross origins in browsers without being asked for.
            raise ApiError(415, "invalid_request", "the content type has to be application/json")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)

    def _is_known(self, headers: Headers) -> bool:
        given = _given_key(headers)
        return bool(given) and any(hmac.compare_digest(given, key) for key in self._keys)

    async def _admit(self, scope: Scope, exchange: _Exchange) -> None:
        if self._in_flight >= self._settings.max_concurrency:
            retry = {"retry-after": str(self._settings.retry_after)}
            raise ApiError(429, "overloaded", "too many requests at once, try again later", headers=retry)
        self._take(1)
        # Given back with the answer's last byte: its client may ask again before this coroutine goes on.
        exchange.on_answered.append(lambda: self._take(-1))
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self._answer(scope, exchange)
        finally:
            exchange.answered()

    def _take(self, places: int) -> None:
        self._in_flight += places
        self._metrics.in_flight.set(self._in_flight)

    async def _answer(self, scope: Scope, exchange: _Exchange) -> None:
        """Answer one request, and stop at it when nobody waits for the answer any more: models cost."""
        answering = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        watching = asyncio.ensure_future(exchange.gone())
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
        told = api_error(error)
        if told.status >= 500:
            logger.error("request %s, %r: %s", exchange.id, scope["path"], told.code, exc_info=error)
        if exchange.status is not None:
            raise error
        await exchange.drain()
        await told.response()(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer: counts what comes in, notes what goes out."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self.id = uuid4().hex
        self.status: int | None = None
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._received = 0
        self._is_complete = asyncio.Event()
        self.on_answered: list[Callable[[], None]] = []

    async def receive(self) -> Message:
        message = await self._next()
        if self._received > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.id
        elif not message.get("more_body", False):
            self.answered()
        await self._send(message)

    def answered(self) -> None:
        """Call what waits for the end of the answer, once."""
        while self.on_answered:
            self.on_answered.pop()()

    async def gone(self) -> None:
        """Wait until the client hung up, or has its answer."""
        await self._is_complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def drain(self) -> None:
        """Read on without keeping anything: who is still sending does not listen, and would lose the answer."""
        start = self._received
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_complete.is_set() and self._received - start <= self._max_bytes:
                    await self._next()
        except TimeoutError:
            pass

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_complete.set()
        return message


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"the body has more than {limit:,} bytes")


def _host_name(headers: Headers) -> str:
    """Return the name in `Host: NAME:PORT`, without the brackets of IPv6."""
    name = headers.get("host", "").lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def _given_key(headers: Headers) -> bytes:
    """Return the key in `Authorization: Bearer KEY`, `X-API-Key: KEY` or as the password of Basic; else b""."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return headers.get("x-api-key", "").encode("latin-1")
