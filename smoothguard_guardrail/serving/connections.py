"""Deadlines for slow clients and a limit of connections per client, which uvicorn does not have.

uvicorn closes idle connections between requests and limits the size of headers. It waits without end for the rest of a
request, so a client that opens connections and sends a byte now and then would keep them all.
"""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from smoothguard_guardrail.serving.settings import ServerSettings

_GRACE_SECONDS = 6.0
"""How long after the deadline of a body the connection ends: the gate's own answer comes first."""
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: 1\r\n\r\n"


def connection_protocol(settings: ServerSettings) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with the deadlines and the limit of connections of a server.

    `smoothguard serve` uses it. With a uvicorn of your own, pass it as `http`:
    `uvicorn.run(app, http=connection_protocol(settings))`.

    Args:
        settings: `header_timeout`, `body_timeout` and `max_connections_per_client`.

    Example:
        >>> from smoothguard_guardrail.serving import ServerSettings
        >>> connection_protocol(ServerSettings()).__name__
        'BoundedProtocol'
    """
    open_connections: _Connections = {}

    class BoundedProtocol(_BoundedProtocol):
        bounds = settings
        by_client = open_connections

    return BoundedProtocol


class _BoundedProtocol(H11Protocol):
    bounds: ServerSettings
    by_client: _Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client_key: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._waits_for: object = None
        """What the deadline is for: None for nothing, `headers`, or the request whose body is incomplete."""
        self._has_data = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._client_key = _client_key(self.client)
        self._watch()
        if self._client_key is not None:
            self._enter(self.by_client.setdefault(self._client_key, {}))

    def _enter(self, same_client: dict[_BoundedProtocol, None]) -> None:
        """Count this connection; above the limit end the oldest without a whole request, or else this one."""
        if len(same_client) >= self.bounds.max_connections_per_client:
            unfinished = (each for each in same_client if each._waits_for == "headers")
            ended = next(unfinished, self)
            ended._end(_TOO_MANY)
            if ended is self:
                return
        same_client[self] = None

    def _leave(self) -> None:
        if self._client_key is not None and (same_client := self.by_client.get(self._client_key)) is not None:
            same_client.pop(self, None)
            if not same_client:
                del self.by_client[self._client_key]

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._has_data = True
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # may start the next request, if the client has already sent it
        if self.cycle.response_complete and not self.cycle.more_body:
            self._cancel()  # uvicorn ends connections that stay idle
            self._has_data = False
        else:
            self._watch()

    def _should_upgrade_to_ws(self) -> bool:
        return False  # there are no WebSocket routes, and their protocol has no deadlines

    def _watch(self) -> None:
        """Keep one deadline: for the headers of the next request, or for the body of the current one."""
        waits_for: object = None
        if self.cycle is not None and self.cycle.more_body:
            waits_for = self.cycle
        elif self.cycle is None or self.cycle.response_complete:
            waits_for = "headers"
        if waits_for is self._waits_for:
            return
        self._cancel()
        if waits_for is not None and not self.transport.is_closing():
            is_body = waits_for is self.cycle
            seconds = self.bounds.body_timeout + _GRACE_SECONDS if is_body else self.bounds.header_timeout
            self._waits_for = waits_for
            self._deadline = self.loop.call_later(seconds, self._expire)

    def _cancel(self) -> None:
        self._waits_for = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self._waits_for == "headers" and self._has_data:
            self._end(_TOO_SLOW)
        else:
            self.transport.abort()

    def _end(self, response: bytes) -> None:
        self._cancel()
        self._leave()
        self.transport.write(response)
        self.transport.close()


_Connections = dict[str, dict[_BoundedProtocol, None]]
"""Open connections by client, oldest first."""


def _client_key(client: tuple[str, int] | None) -> str | None:
    """Return what counts as one client: an IPv4 address or an IPv6 network of 64 bits; None for a local socket.

    Example:
        >>> _client_key(("::ffff:10.0.0.7", 80)), _client_key(("2001:db8::7", 80))
        ('10.0.0.7', '2001:db8::/64')
    """
    if client is None:
        return None
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0] or None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
