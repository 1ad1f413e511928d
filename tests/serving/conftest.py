"""Servers on loopback, and what they are asked."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn
from fastapi import FastAPI
from PIL import Image

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable, ballot, voting
from smoothguard_guardrail.serving import ServerSettings, create_app
from smoothguard_guardrail.testing import AsyncScriptedChatModel, WordEmbeddings

Serve = Callable[..., str]


@contextmanager
def running(app: FastAPI) -> Iterator[uvicorn.Server]:
    """Run a server in a thread until the block ends, and let it finish what is under way."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=20))
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


@pytest.fixture(autouse=True)
def _light_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballot, "default_embedder", WordEmbeddings)
    monkeypatch.setattr(voting, "default_embedder", WordEmbeddings)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> AsyncScriptedChatModel:
    kind: type[AsyncScriptedChatModel] = getattr(request, "param", AsyncScriptedChatModel)
    return kind(script=["A grey square."])


@pytest.fixture
def serve(model: AsyncScriptedChatModel) -> Iterator[Serve]:
    """Start servers of the scripted model, called `scripted`, with these settings; returns their URLs."""
    with ExitStack() as stack:

        def start(
            *, config: dict[str, Any] | None = None, chains: Any = None, callbacks: Any = (), **settings: Any
        ) -> str:
            knobs = {"num_samples": 4, "early_stop": None} | (config or {})
            guard = SmoothGuardRunnable(model, config=SmoothGuardConfig(**knobs))
            app = create_app({"scripted": guard}, chains, settings=ServerSettings(**settings), callbacks=callbacks)
            return url_of(stack.enter_context(running(app)))

        yield start


@pytest.fixture
def picture() -> str:
    """Base64 of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def recording() -> str:
    """Base64 of a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(4000) / 5) / 2, 8000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


def about_picture(picture: str, text: str = "What is it?") -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}", "detail": "low"}}
    return [{"role": "user", "content": [{"type": "text", "text": text}, image]}]
