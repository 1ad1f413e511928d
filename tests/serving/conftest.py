"""Servers on loopback, and what they are asked."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import soundfile

from smoothguard_guardrail import SmoothGuardRunnable, voting
from smoothguard_guardrail.core import components
from smoothguard_guardrail.serving import ServerSettings, create_app
from smoothguard_guardrail.testing import AsyncScriptedChatModel, WordEmbeddings
from tests.helpers import config_of
from tests.serving.servers import grey_png, running, url_of

Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def _light_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
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
            changes = {"num_samples": 4, "early_stop": None} | (config or {})
            guard = SmoothGuardRunnable(model, config=config_of(**changes))
            app = create_app({"scripted": guard}, chains, settings=ServerSettings(**settings), callbacks=callbacks)
            return url_of(stack.enter_context(running(app)))

        yield start


@pytest.fixture
def picture() -> str:
    """Base64 of a PNG."""
    return grey_png()


@pytest.fixture
def recording() -> str:
    """Base64 of a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(4000) / 5) / 2, 8000, format="WAV")
    return base64.b64encode(file.getvalue()).decode()
