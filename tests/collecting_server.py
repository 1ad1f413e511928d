"""A server on loopback that stands in for a service: it stores what real clients send."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    method: str
    path: str
    content_type: str
    body: bytes

    @property
    def parts(self) -> dict[str, Any]:
        """The JSON of every part of a multipart body by its name."""
        message = message_from_bytes(b"Content-Type: " + self.content_type.encode() + b"\r\n\r\n" + self.body)
        return {
            str(part.get_param("name", header="content-disposition")): json.loads(
                part.get_payload(decode=True) or b"null"
            )
            for part in message.walk()
            if not part.is_multipart() and part.get_content_type() == "application/json"
        }


class Collector:
    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []

    def to(self, path: str) -> list[Received]:
        """Return the requests to a path, in order of arrival."""
        return [request for request in self.received if request.path.split("?")[0] == path]


@contextmanager
def collecting_server(answer: Callable[[Received], tuple[int, Any]]) -> Iterator[Collector]:
    """Run a server that stores requests and replies with the status and the JSON that `answer(request)` returns."""

    class Handler(BaseHTTPRequestHandler):
        # The default, HTTP/1.0, closes the connection after each reply, so no client keeps a socket open.
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Received(self.command, self.path, self.headers.get("Content-Type", ""), body)
            collector.received.append(request)
            status, value = answer(request)
            reply = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = _handle  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # seconds until it sees its end
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
