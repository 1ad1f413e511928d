import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpcore
import pytest

from smoothguard_guardrail.config import RemotePolicy
from smoothguard_guardrail.errors import MediaFetchError, MediaLimitError
from smoothguard_guardrail.media.local_files import read_local
from smoothguard_guardrail.media.remote_urls import check_address, fetch_url
from tests.media import corpus

PATH = "messages[0].content[1]"
PUBLIC = "93.184.216.34"


class Server(httpcore.NetworkBackend):
    """Answers by host name, as the TLS handshake names it, and remembers who was connected to."""

    def __init__(self, answers: dict[str, bytes], *, delay: float = 0.0) -> None:
        self.answers = answers
        self.delay = delay
        self.connected: list[str] = []

    def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.NetworkStream:
        self.connected.append(host)
        if host.endswith(".1"):
            raise httpcore.ConnectError("refused")
        return Stream(self)


class Stream(httpcore.NetworkStream):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.left = b""

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None) -> "Stream":
        assert ssl_context.check_hostname
        self.left = self.server.answers[server_hostname or ""]
        return self

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None
        time.sleep(self.server.delay)
        step = min(max_bytes, 200 if self.server.delay else max_bytes)
        chunk, self.left = self.left[:step], self.left[step:]
        return chunk

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert b"\r\nhost: " in buffer.lower() or not buffer

    def close(self) -> None:
        pass

    def get_extra_info(self, info: str) -> Any:
        return None


def answer(body: bytes = corpus.PNG, status: str = "200 OK", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(target: str) -> bytes:
    return answer(b"", "302 Found", Location=target)


def fetch(
    url: str,
    server: Server | None = None,
    addresses: dict[str, list[str]] | None = None,
    max_bytes: int = 10_000,
    **policy: Any,
) -> bytes:
    def resolve(host: str, port: int) -> Iterable[str]:
        assert port == 443
        return (addresses or {}).get(host, [PUBLIC])

    return fetch_url(
        url,
        policy=RemotePolicy(**{"allow_urls": True} | policy),
        max_bytes=max_bytes,
        path=PATH,
        resolve=resolve,
        backend=server or Server({"example.com": answer()}),
    )


def test_fetches_from_the_address_that_was_checked() -> None:
    server = Server({"example.com": answer()})
    assert fetch("https://example.com/a b.png".replace(" ", "%20"), server) == corpus.PNG
    assert fetch("HTTPS://Example.COM:443/cat.png?a=ü#x", server) == corpus.PNG
    assert server.connected == [PUBLIC, PUBLIC]


def test_the_next_address_is_tried() -> None:
    server = Server({"example.com": answer()})
    assert fetch("https://example.com/", server, {"example.com": ["93.184.216.1", PUBLIC]}) == corpus.PNG
    assert server.connected == ["93.184.216.1", PUBLIC]
    with pytest.raises(MediaFetchError, match="refused"):
        fetch("https://example.com/", server, {"example.com": ["93.184.216.1"]})


def test_off_by_default() -> None:
    with pytest.raises(MediaFetchError, match="allow_urls=True"):
        fetch("https://example.com/", allow_urls=False)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1%eth0"),
        *("fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("2001:0:1::1", "::7f00:1", "2001:db8::1"),
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    server = Server({"example.com": answer()})
    with pytest.raises(ValueError, match="not a public address"):
        check_address(address)
    with pytest.raises(MediaFetchError, match="not a public address"):
        fetch("https://example.com/", server, {"example.com": [PUBLIC, address]})
    assert server.connected == []


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_pass(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "only https"),
        ("ftp://example.com/", "only https"),
        ("gs://bucket/key", "only https"),
        ("https://user@example.com/", "credentials"),
        ("https://user:word@example.com/", "credentials"),
        ("https://example.com:8443/", "port 443"),
        ("https://example.com:0/", "port 443"),
        ("https://example.com:99999/", "fetching failed"),
        ("https:///cat.png", "no usable host"),
        ("https://example.com\\@evil.org/", "control characters"),
        ("https://example.com/\r\nHost: evil", "control characters"),
        ("https://exa mple.com/", "control characters"),
        ("https://[fe80::1%25eth0]/", "no usable host"),
        ("https://[::1/", "fetching failed"),
    ],
)
def test_urls_that_break_a_rule_are_refused(url: str, reason: str) -> None:
    with pytest.raises(MediaFetchError, match=reason):
        fetch(url)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
def test_hosts_in_disguise_are_resolved_before_they_are_judged(host: str) -> None:
    server = Server({})
    with pytest.raises(MediaFetchError, match=r"not a public address|cannot be resolved"):
        fetch_url(f"https://{host}/", policy=RemotePolicy(allow_urls=True), max_bytes=9, path=PATH, backend=server)
    assert server.connected == []


def test_allowed_hosts() -> None:
    assert fetch("https://EXAMPLE.com./", allowed_hosts=("example.com",)) == corpus.PNG
    for url in ("https://example.com.evil.org/", "https://evil.org/example.com", "https://sub.example.com/"):
        with pytest.raises(MediaFetchError, match="not among the allowed"):
            fetch(url, allowed_hosts=("example.com",))


def test_redirects_pass_the_same_checks() -> None:
    hops = {
        "example.com": redirect("//cdn.example.org/x"),
        "cdn.example.org": answer(),
        "plain.org": redirect("http://cdn.example.org/x"),
        "inner.org": redirect("https://metadata.internal/"),
        "file.org": redirect("file:///etc/passwd"),
        "round.org": redirect("/again"),
    }
    server = Server(hops)
    assert fetch("https://example.com/", server) == corpus.PNG
    for host, reason in (("plain.org", "only https"), ("file.org", "only https"), ("round.org", "more than 3 times")):
        with pytest.raises(MediaFetchError, match=reason):
            fetch(f"https://{host}/", server)
    with pytest.raises(MediaFetchError, match="not a public address"):
        fetch("https://inner.org/", server, {"metadata.internal": ["169.254.169.254"]})
    with pytest.raises(MediaFetchError, match="more than 0 times"):
        fetch("https://example.com/", server, max_redirects=0)


def test_size_is_limited_by_header_and_by_body() -> None:
    with pytest.raises(MediaLimitError):
        fetch("https://example.com/", max_bytes=100)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000
    with pytest.raises(MediaLimitError):
        fetch("https://example.com/", Server({"example.com": endless}), max_bytes=100)


def test_time_is_limited_as_a_whole() -> None:
    with pytest.raises(MediaFetchError, match="time is up"):
        fetch("https://example.com/", Server({"example.com": answer()}, delay=0.02), timeout=0.1)

    released = threading.Event()

    def stuck(host: str, port: int) -> list[str]:
        released.wait(30)
        return [PUBLIC]

    with pytest.raises(MediaFetchError, match="resolving"):
        fetch_url(
            "https://example.com/",
            policy=RemotePolicy(allow_urls=True, timeout=0.2),
            max_bytes=9,
            path=PATH,
            resolve=stuck,
            backend=Server({}),
        )
    released.set()


@pytest.mark.parametrize(
    "raw",
    [
        answer(status="404 Not Found"),
        answer(Content_Encoding="gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"not http at all\r\n\r\n",
        b"",
        answer(status="206 Partial Content"),
        redirect("https://exämple.com/".encode().decode("latin-1")),
    ],
)
def test_answers_that_are_not_images_are_errors(raw: bytes) -> None:
    with pytest.raises(MediaFetchError):
        fetch("https://example.com/", Server({"example.com": raw}))


def test_local_files(tmp_path: Path) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "allowed too"
    allowed.mkdir()
    outside.mkdir()
    (allowed / "a b.png").write_bytes(corpus.PNG)
    (outside / "secret").write_bytes(corpus.PNG)
    (allowed / "link").symlink_to(outside / "secret")
    policy = RemotePolicy(allowed_directories=(str(allowed),))

    def read(reference: str, max_bytes: int = 10_000) -> bytes:
        return read_local(reference, policy=policy, max_bytes=max_bytes, path=PATH)

    assert read(str(allowed / "a b.png")) == corpus.PNG
    assert read((allowed / "a b.png").as_uri()) == corpus.PNG
    assert read(f" FILE://localhost{allowed}/a%20b.png") == corpus.PNG
    for reference in (
        str(outside / "secret"),
        f"{allowed}/../allowed too/secret",
        f"file://{allowed}/%2e%2e/allowed%20too/secret",
        str(allowed / "link"),
        str(allowed / "missing"),
        str(allowed),
        f"file://other{allowed}/a%20b.png",
        "/dev/zero",
        "a\0b",
        "",
    ):
        with pytest.raises(MediaFetchError):
            read(reference)
    with pytest.raises(MediaLimitError):
        read(str(allowed / "a b.png"), max_bytes=100)
    with pytest.raises(MediaFetchError, match="allowed_directories"):
        read_local("x", policy=RemotePolicy(), max_bytes=9, path=PATH)
