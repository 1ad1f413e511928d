"""The guard finds the model in what every provider's package makes of it, offline."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from smoothguard_guardrail import SmoothGuardChatModel
from smoothguard_guardrail.core.wrapped_models import find_models

KEY = SecretStr("none")
MODELS: dict[str, Any] = {
    "openai": lambda: ChatOpenAI(model="gpt-4o", api_key=KEY),
    "openai, responses": lambda: ChatOpenAI(model="gpt-4o", api_key=KEY, use_responses_api=True),
    "anthropic": lambda: ChatAnthropic(model="claude-sonnet-4-5", api_key=KEY),
    "google": lambda: ChatGoogleGenerativeAI(model="gemini-2.5-pro", google_api_key=KEY),
    "ollama": lambda: ChatOllama(model="llava"),
}


class Finding(BaseModel):
    """What the picture shows."""

    colour: str


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_every_model_in_it_is_guarded(make: Any) -> None:
    inner = make()
    guarded = SmoothGuardChatModel(inner)
    made = [guarded.bind_tools([Finding])]
    for method in ("function_calling", "json_schema"):
        made += [guarded.with_structured_output(Finding, method=method, include_raw=raw) for raw in (False, True)]
    for runnable in made:
        (model,) = find_models(runnable)
        assert isinstance(model, SmoothGuardChatModel)
        assert type(model.inner) is type(inner)
    assert guarded.profile == inner.profile
    assert guarded._get_ls_params() == inner._get_ls_params()
    assert guarded.model_name in (getattr(inner, "model_name", None), inner.model)
