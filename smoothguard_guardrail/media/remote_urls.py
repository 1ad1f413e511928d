"""Fetches media from URLs that the policy allows: https on port 443 only.

The host is resolved once, all its addresses must be public, and the connection goes to one of the addresses that were
checked, so a second DNS answer changes nothing. Redirects pass the same checks. No proxies, cookies or credentials are
used. One deadline covers everything.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from smoothguard_guardrail.errors import MediaFetchError, MediaLimitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from smoothguard_guardrail.config import RemotePolicy

    Resolver = Callable[[str, int], Iterable[str]]

_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = "/%:@!$&'()*+,;=~"
_CARRIERS = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))
"""IPv6 networks whose addresses contain the IPv4 address to which the connection would really go."""


def fetch_url(
    url: str,
    *,
    policy: RemotePolicy,
    max_bytes: int,
    path: str,
    resolve: Resolver | None = None,
    backend: httpcore.NetworkBackend | None = None,
) -> bytes:
    """Fetch a medium over https.

    Args:
        url: The string in the block.
        policy: Whether URLs are fetched, from which hosts and for how long.
        max_bytes: Largest size of the body; reading stops there.
        path: Path of the block, for the error.
        resolve: Takes a host and a port and returns its addresses; the system's resolver by default.
        backend: Connects to the checked addresses; plain sockets by default.

    Raises:
        MediaFetchError: The policy forbids it, or it fails.
        MediaLimitError: The body is larger than `max_bytes`.
    """
    if not policy.allow_urls:
        raise MediaFetchError(
            "URLs are fetched only with RemotePolicy(allow_urls=True)",
            path=path,
        )
    deadline = time.monotonic() + policy.timeout
    checked = _CheckedBackend(resolve or _resolve, backend or httpcore.SyncBackend(), deadline)
    try:
        with httpcore.ConnectionPool(ssl_context=_tls(), network_backend=checked) as pool:
            for _ in range(policy.max_redirects + 1):
                target = _check_url(url, policy)
                body = _get(pool, target, max_bytes)
                if isinstance(body, bytes):
                    return body
                url = urljoin(url, body)
    except _TooLargeError:
        raise MediaLimitError(f"the answer has more than {max_bytes:,} bytes", path=path) from None
    except (_RefusedError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise MediaFetchError(f"fetching failed: {error or type(error).__name__}", path=path) from error
    except (OSError, ValueError, UnicodeError) as error:
        raise MediaFetchError(f"fetching failed: {error}", path=path) from error
    raise MediaFetchError(f"redirected more than {policy.max_redirects} times", path=path)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _RefusedError(Exception):
    """A rule forbids the connection."""


class _TooLargeError(Exception):
    """The body is over the limit."""


def _check_url(url: str, policy: RemotePolicy) -> httpcore.URL:
    """Check everything that the URL itself shows, and parse it only once."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise _RefusedError("the URL has white space or control characters")
    parts = urlsplit(url)
    if parts.scheme.lower() != "https":
        raise _RefusedError("only https is allowed")
    if parts.username is not None or parts.password is not None:
        raise _RefusedError("the URL holds credentials")
    if parts.port not in (None, 443):
        raise _RefusedError("only port 443 is allowed")
    host = (parts.hostname or "").rstrip(".")
    if not host or "%" in host:
        raise _RefusedError("the URL has no usable host")
    name = host if ":" in host else host.encode("idna").decode("ascii")
    if policy.allowed_hosts is not None and name not in {allowed.lower() for allowed in policy.allowed_hosts}:
        raise _RefusedError(f"the host {name!r} is not among the allowed ones")
    target = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE + "?")
    return httpcore.URL(scheme="https", host=name, port=443, target=target)


def _get(pool: httpcore.ConnectionPool, url: httpcore.URL, max_bytes: int) -> bytes | str:
    """Return the body, or the target of a redirect."""
    host = url.host.decode()
    headers: dict[bytes | str, bytes | str] = {
        "Host": f"[{host}]" if ":" in host else host,
        "Accept": "image/*, audio/*",
        "Accept-Encoding": "identity",
        "User-Agent": "smoothguard-guardrail",
    }
    with pool.stream("GET", url, headers=headers) as response:
        answer = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in answer:
            return answer[b"location"].decode("ascii")
        if response.status != 200:
            raise _RefusedError(f"the server answered {response.status}")
        if answer.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _RefusedError("the server compressed the answer")
        if int(answer.get(b"content-length", b"0")) > max_bytes:
            raise _TooLargeError
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > max_bytes:
                raise _TooLargeError
        return bytes(body)


def check_address(address: str) -> None:
    """Check that an address is public.

    Raises:
        ValueError: The address is private, loopback, link-local, reserved, multicast, or contains an IPv4 address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        elif parsed.is_site_local or any(parsed in network for network in _CARRIERS):
            raise ValueError(f"{address} is not a public address")
    forbidden = parsed.is_private or parsed.is_reserved or parsed.is_multicast or parsed.is_unspecified
    if forbidden or parsed.is_loopback or parsed.is_link_local or not parsed.is_global:
        raise ValueError(f"{address} is not a public address")


def _resolve(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to public addresses only, and gives up at the deadline."""

    def __init__(self, resolve: Resolver, inner: httpcore.NetworkBackend, deadline: float) -> None:
        self.resolve = resolve
        self.inner = inner
        self.deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """Resolve the host, check its addresses, and connect to one of them."""
        addresses = self._addresses(host, port)
        for address in addresses:
            check_address(address)
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = self.inner.connect_tcp(address, port, timeout=_left(self.deadline))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, self.deadline)
        raise failure or _RefusedError(f"the host {host!r} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        """Resolve in a thread: the system's resolver takes no timeout."""
        outcome: list[Any] = []

        def work() -> None:
            try:
                outcome.append(list(self.resolve(host, port)))
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(_left(self.deadline))
        if not outcome:
            raise httpcore.ConnectTimeout(f"resolving {host!r} took too long")
        if isinstance(outcome[0], Exception):
            raise _RefusedError(f"{host!r} cannot be resolved: {outcome[0]}")
        return list(outcome[0])


class _Stream(httpcore.NetworkStream):
    """A stream whose operations all end at the deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self.inner = inner
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, timeout=_left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, timeout=_left(self.deadline))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self.inner.start_tls(ssl_context, server_hostname, timeout=_left(self.deadline))
        return _Stream(stream, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left
