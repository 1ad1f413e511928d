from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import langchain.chat_models
import pytest

from smoothguard_guardrail import ConfigurationError
from smoothguard_guardrail.models import ChatTransformersMultimodal, load_model
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.testing import ScriptedChatModel


def test_reference_is_the_shipped_model() -> None:
    model = load_model("reference")
    assert isinstance(model, ChatTransformersMultimodal)
    assert model.model_name == str(reference_path())


def test_hf_is_a_folder() -> None:
    assert isinstance(load_model(f"hf:{reference_path()}"), ChatTransformersMultimodal)


def test_anything_else_goes_to_init_chat_model(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"openai:gpt-4o": ScriptedChatModel(script=["Hello."])}
    monkeypatch.setattr(langchain.chat_models, "init_chat_model", models.__getitem__)
    assert load_model("openai:gpt-4o") is models["openai:gpt-4o"]


def test_missing_provider_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(spec: str) -> None:
        raise ImportError("please install langchain-openai")

    monkeypatch.setattr(langchain.chat_models, "init_chat_model", fail)
    with pytest.raises(ConfigurationError, match="'openai:gpt-4o' cannot be loaded: please install langchain-openai"):
        load_model("openai:gpt-4o")


@pytest.mark.parametrize("spec", ["", ":", "hf:", "openai:", ":gpt-4o"])
def test_incomplete_name_is_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="give reference, hf:PATH, PROVIDER:NAME or NAME"):
        load_model(spec)


def test_a_bare_name_goes_to_init_chat_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScriptedChatModel(script=["Hello."])
    monkeypatch.setattr(langchain.chat_models, "init_chat_model", {"gpt-4o": model}.__getitem__)
    assert load_model("gpt-4o") is model


@pytest.mark.parametrize("name", ["nobody:x", "nonsense"])
def test_a_name_that_no_provider_has_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"model '{name}' cannot be loaded"):
        load_model(name)


def test_importing_the_resolver_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "langchain", "langchain_core", "numpy"]
    code = f"""
import sys
from smoothguard_guardrail.models import load_model
print([name for name in {heavy} if name in sys.modules])
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_torchvision_that_does_not_fit_torch_is_named(tmp_path: Path) -> None:
    package, metadata = tmp_path / "torchvision", tmp_path / "torchvision-0.99.0.dist-info"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.99.0\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.voting.embedder import default_embedder
for load in (default_embedder, lambda: load_model("reference", device="cpu")):
    try:
        load()
    except Exception as error:
        print(type(error).__name__, " ".join(str(error).split()))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert len(lines) == 2, ended.stdout
    for line in lines:
        assert line.startswith("ConfigurationError torchvision 0.99.0 does not fit torch ")
        assert "operator torchvision::nms does not exist" in line
        assert "pip install --force-reinstall torch torchvision" in line
