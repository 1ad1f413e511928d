"""What no wrapping of a model may bring back: cached answers, and tokens of samples before the vote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain.chat_models import init_chat_model
from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBinding,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)

from smoothguard_guardrail import ConfigurationError, SmoothGuardConfig, SmoothGuardMiddleware
from smoothguard_guardrail._langchain.sample_calls import sample_model
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, question

Wrap = Callable[[ScriptedChatModel], Runnable[Any, Any]]
OTHER = ScriptedChatModel(script=["other"])
WRAPS: dict[str, Wrap] = {
    "bare": lambda model: model,
    "bind": lambda model: model.bind(stop=["x"]),
    "with_config": lambda model: model.with_config(tags=["mine"]),
    "with_retry": lambda model: model.with_retry(),
    "with_fallbacks": lambda model: model.with_fallbacks([OTHER]),
    "a fallback": lambda model: ScriptedChatModel(script=[ValueError("down")]).with_fallbacks([model]),
    "configurable_fields": lambda model: model.configurable_fields(delay=ConfigurableField(id="delay")),
    "configurable_alternatives": lambda model: model.configurable_alternatives(ConfigurableField(id="m"), other=OTHER),
    "an alternative that a function makes": lambda model: RunnableBinding(
        bound=OTHER.configurable_alternatives(ConfigurableField(id="m"), default_key="other", mine=lambda: model),
        config={"configurable": {"m": "mine"}},
    ),
    "sequence": lambda model: RunnablePassthrough() | model,
    "branch": lambda model: RunnableBranch((lambda _: False, OTHER), model),
    "parallel": lambda model: RunnableParallel(answer=model) | (lambda answers: answers["answer"]),
    "all at once": lambda model: (RunnablePassthrough() | model.bind(stop=["x"]).with_retry()).with_fallbacks([OTHER]),
}


class Similar(BaseCache):
    """Takes all requests for one, as semantic caches take near-identical ones."""

    def __init__(self) -> None:
        self.value: RETURN_VAL_TYPE | None = None
        self.updates = 0

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        return self.value

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        self.value = return_val
        self.updates += 1

    def clear(self, **kwargs: Any) -> None:
        self.value = None


@pytest.fixture
def cache() -> Iterator[Similar]:
    cache = Similar()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


class Streaming(ScriptedChatModel):
    """Streams its answers word by word to whoever listens."""

    streaming: bool = False

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._generate(messages, stop, run_manager, **kwargs).generations[0].message
        for word in str(answer.content).split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word + " "))


class Listener(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.answers = 0

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.answers += 1


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("own", [False, True], ids=["global cache", "a cache of its own"])
def test_no_cache_answers_a_sample(wrap: Wrap, own: bool, cache: Similar) -> None:
    model = ScriptedChatModel(script=["tells", "refuses", "refuses"], cache=cache if own else None)
    if own:
        set_llm_cache(None)
    guard = guarded(wrap(model), num_samples=3, max_concurrency=1)
    guard.invoke(question())
    asyncio.run(guard.ainvoke(question()))
    assert (len(model.received), cache.updates) == (6, 0)


def test_others_keep_the_global_cache(cache: Similar) -> None:
    seen: list[Any] = []
    asked = ScriptedChatModel(script=["one", "two"])

    def answer(messages: Any) -> str:
        seen.append(get_llm_cache())
        return "A cat."

    def ask_another(messages: Any) -> Any:
        return asked.invoke("Hi")  # outside of any sample

    assert [ask_another(None).content, ask_another(None).content] == ["one", "one"]
    guarded(ScriptedChatModel(script=answer)).invoke(question())
    assert seen
    assert get_llm_cache() is cache
    assert ask_another(None).content == "one"


def test_an_agent_asks_for_every_sample(cache: Similar, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SmoothGuardConfig(num_samples=3, early_stop=None, max_concurrency=1)
    script = ["tells", "refuses", "refuses"]
    inner = ScriptedChatModel(script=script)
    down = ScriptedChatModel(script=[ValueError("down")])
    agent = create_agent(down, [], middleware=[SmoothGuardMiddleware(config), ModelFallbackMiddleware(inner)])
    agent.invoke({"messages": question()})
    assert len(inner.received) == 3

    made = ScriptedChatModel(script=script)
    monkeypatch.setattr("langchain.chat_models.base._init_chat_model_helper", lambda model, **kwargs: made)
    configurable = init_chat_model("openai:gpt-4o", configurable_fields=("temperature",))
    agent = create_agent(configurable, [], middleware=[SmoothGuardMiddleware(config)])  # type: ignore[arg-type]
    agent.invoke({"messages": question()})
    assert len(made.received) == 3


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_handlers_of_the_model_itself_hear_no_token(wrap: Wrap) -> None:
    made, bound = Listener(), Listener()
    model = Streaming(script=["a secret answer"], streaming=True, callbacks=[made])
    model.invoke("Hi")
    assert "".join(made.tokens) == "a secret answer "
    made.tokens.clear()

    guard = guarded(wrap(model).with_config(callbacks=[bound]), num_samples=3)
    guard.invoke(question())
    asyncio.run(guard.ainvoke(question()))
    assert (made.tokens, bound.tokens) == ([], [])
    assert made.answers == 7


def test_the_defaults_of_a_configurable_model_lose_cache_and_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def make(model: str, **kwargs: Any) -> Any:
        given.append(kwargs)
        return Streaming(
            script=["a secret answer"], streaming=True, callbacks=kwargs["callbacks"], cache=kwargs["cache"]
        )

    monkeypatch.setattr("langchain.chat_models.base._init_chat_model_helper", make)
    listener = Listener()
    model: Any = init_chat_model(
        "openai:gpt-4o", configurable_fields=("temperature",), callbacks=[listener], cache=Similar()
    )
    guarded(model, num_samples=3).invoke(question())
    assert (listener.tokens, [each["cache"] for each in given[-3:]]) == ([], [False] * 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"callbacks": [Listener()]}, "hear tokens"), ({"cache": Similar()}, "cache of its own")],
)
def test_a_model_in_a_function_that_no_copy_reaches_is_refused(fields: dict[str, Any], message: str) -> None:
    model = ScriptedChatModel(script=["A cat."], **fields)
    with pytest.raises(ConfigurationError, match=message):
        sample_model(RunnableLambda(lambda messages: model.invoke(messages)))
    harmless = ScriptedChatModel(script=["A cat."])
    sample_model(RunnableLambda(lambda messages: harmless.invoke(messages)))
