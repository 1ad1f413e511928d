from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from smoothguard_guardrail.cli import loading
from smoothguard_guardrail.core import components
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(path)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.wav"
    soundfile.write(path, np.sin(np.arange(4000) / 5) / 2, 8000)
    return path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedChatModel:
    """The model that every name stands for, with an embedder that loads nothing."""
    model = ScriptedChatModel(script=["A grey square."])
    monkeypatch.setattr(loading, "load_model", lambda spec: model)
    monkeypatch.setattr(components, "default_embedder", WordEmbeddings)
    return model
