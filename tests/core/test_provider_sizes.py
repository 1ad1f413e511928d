"""What providers document about sizes, by the names that LangChain's chat models carry."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_ollama import ChatOllama
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from smoothguard_guardrail.core.provider_sizes import RULES, documented_size

KEY = SecretStr("none")


def openai(model: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=model, api_key=KEY, **options)


def claude(model: str) -> ChatAnthropic:
    return ChatAnthropic(model_name=model, api_key=KEY, timeout=None, stop=None)


def gemini(model: str) -> ChatGoogleGenerativeAI:
    return ChatGoogleGenerativeAI(model=model, google_api_key=KEY)


@pytest.mark.parametrize(
    ("model", "size", "seen"),
    [
        (openai("gpt-4o"), (3000, 4000), (768, 1024)),
        (openai("gpt-4o"), (500, 400), (500, 400)),
        (openai("gpt-5"), (1280, 5200), (504, 2048)),
        (openai("gpt-4.1-mini"), (4000, 4000), (1248, 1248)),
        (openai("gpt-4.1-mini"), (2400, 1800), (1408, 1056)),  # the provider's own examples
        (openai("gpt-5.4"), (4000, 4000), (1600, 1600)),
        (claude("claude-sonnet-4-5"), (3840, 2160), (1456, 819)),
        (claude("claude-sonnet-4-5"), (4000, 4000), (1092, 1092)),
        (claude("claude-opus-4-7"), (3840, 2160), (2576, 1449)),
        (claude("claude-3-5-haiku-latest"), (100, 200), (100, 200)),
        (gemini("gemini-2.5-flash"), (2000, 1500), (2000, 1500)),
        (ChatOllama(model="gemma3:4b"), (300, 2000), (896, 896)),
        (ChatOllama(model="llava"), (100, 200), (336, 672)),
        (ChatOllama(model="qwen2.5vl"), (3000, 3000), (980, 980)),
        (openai("Qwen/Qwen2.5-VL-7B-Instruct", base_url="http://localhost:8000/v1"), (100, 100), (112, 112)),
    ],
)
def test_a_model_is_known_by_its_name(model: Any, size: tuple[int, int], seen: tuple[int, int]) -> None:
    rule = documented_size(model)
    assert rule is not None
    assert rule(*size) == seen


@pytest.mark.parametrize(
    "model",
    [
        gemini("gemini-3-pro-preview"),
        openai("gpt-4o", base_url="http://localhost:8000/v1"),
        openai("a-model-of-ours"),
        ChatOllama(model="minicpm-v"),
        AzureChatOpenAI(
            azure_deployment="ours", api_key=KEY, azure_endpoint="https://example.com", api_version="2024-10-21"
        ),
        object(),
    ],
    ids=range(6),
)
def test_an_unknown_model_is_not_guessed(model: Any) -> None:
    assert documented_size(model) is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.provider[:9]} {rule.model[:20]}")
def test_what_a_rule_returns_is_not_shrunk_again(rule: Any) -> None:
    for size in ((64, 64), (1024, 32), (32, 1024), (768, 1024), (4000, 3000), (1280, 5200), (1, 1)):
        once = rule.size(*size)
        again = rule.size(*once)
        assert all(abs(new - old) <= 1 + 0.01 * old for new, old in zip(again, once, strict=True)), (size, once)
        assert min(once) >= 1
    assert rule.source.startswith("https://")
