"""Servers in threads, and what they are asked."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image

# Patient: these servers share a machine with whatever else it does. Reading the certificates of all authorities, which
# plain HTTP does not use, would take ten times as long as a request.
get = partial(httpx.get, timeout=60, verify=False)
post = partial(httpx.post, timeout=60, verify=False)


class _PromptServer(uvicorn.Server):
    """Ends in a millisecond where nothing is under way; uvicorn looks ten times a second, and then waits as long."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
            await server.wait_closed()
        await self.lifespan.shutdown()


@contextmanager
def running(app: FastAPI, **options: Any) -> Iterator[uvicorn.Server]:
    """Run a server in a thread until the block ends, and let it finish what is under way."""
    config = uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=20, **options)
    server = _PromptServer(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def url_of(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


def grey_png() -> str:
    """Base64 of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def about_picture(picture: str, text: str = "What is it?") -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]
