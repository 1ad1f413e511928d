"""A server on loopback that records its requests, and answers them or forwards them to another server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.collecting_server import Received, collecting_server

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

    def reply(request: Received) -> tuple[int, Any]:
        recorder.bodies.append(json.loads(request.body))
        value = json.loads(answer(request.path, request.body))
        recorder.replies.append(value)
        return 200, value

    with collecting_server(reply) as collector:
        recorder = Recorder(collector.url)
        yield recorder


def forward_to(base_url: str) -> Answer:
    """Return an `answer` that forwards each request to another server and returns its reply."""

    def answer(path: str, body: bytes) -> bytes:
        request = urllib.request.Request(base_url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return bytes(response.read())

    return answer
