"""A server on loopback that records its requests, and answers them or forwards them to another server."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str, bytes], bytes]


class Recorder:
    """The requests and replies of a recording server, in order of arrival."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.bodies: list[Any] = []
        self.replies: list[Any] = []

    def clear(self) -> None:
        """Delete everything recorded so far."""
        self.bodies.clear()
        self.replies.clear()


@contextmanager
def recording_server(answer: Answer) -> Iterator[Recorder]:
    """Run a server that records POST requests and replies with the JSON that `answer(path, body)` returns."""

    class Handler(BaseHTTPRequestHandler):
        # The default, HTTP/1.0, closes the connection after each reply, so no client keeps a socket open.
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            recorder.bodies.append(json.loads(body))
            reply = answer(self.path, body)
            recorder.replies.append(json.loads(reply))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder = Recorder(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def forward_to(base_url: str) -> Answer:
    """Return an `answer` that forwards each request to another server and returns its reply."""

    def answer(path: str, body: bytes) -> bytes:
        request = urllib.request.Request(base_url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())

    return answer
