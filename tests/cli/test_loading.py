from __future__ import annotations

import langchain.chat_models
import pytest

from smoothguard_guardrail import ConfigurationError
from smoothguard_guardrail.cli.loading import load_model
from smoothguard_guardrail.models import ChatTransformersMultimodal
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


@pytest.mark.parametrize("spec", ["", "gpt-4o", "hf:", "openai:"])
def test_incomplete_name_is_refused(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="give reference, hf:PATH or PROVIDER:NAME"):
        load_model(spec)
