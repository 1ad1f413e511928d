"""Calls a model for many samples at once: concurrently, or as one true batch."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, NamedTuple

import torch
from langchain_core.caches import BaseCache
from langchain_core.callbacks import (
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ContextThreadPoolExecutor, merge_configs
from langchain_core.runnables.configurable import DynamicRunnable

from smoothguard_guardrail._langchain import private_api
from smoothguard_guardrail._langchain.sample_runs import SAMPLE_TAG, SampleRuns, without_tokens
from smoothguard_guardrail.core.effects import CallModel, Outcome
from smoothguard_guardrail.core.wrapped_models import hidden_models, map_parts, map_runnables
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

# langgraph's TAG_NOSTREAM: without it on the model itself, every sample's tokens reach the user of
# `stream_mode="messages"`.
NO_STREAM_TAG = "nostream"


def sample_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a copy of a model for sample calls: tagged, not streamed to users, never cached.

    The chat models in it are copied, whatever wraps them.

    Raises:
        ConfigurationError: If a function in it calls a chat model that caches, or that streams to handlers of its own.
    """
    for hidden in hidden_models(model):
        _check_hidden(hidden)
    copied: Runnable[Any, Any] = map_runnables(model, _for_samples)
    if isinstance(unwrap(copied).model, BaseChatModel):
        return copied
    # Not `with_config`: a configurable Runnable's keeps the callbacks of the run that it is called in.
    return RunnableBinding(bound=copied, kwargs={}, config={"tags": [NO_STREAM_TAG, SAMPLE_TAG]})


def _for_samples(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    if isinstance(runnable, BaseChatModel):
        inner = map_parts(runnable, _for_samples)
        tags = [*(inner.tags or []), NO_STREAM_TAG, SAMPLE_TAG]
        update = {"tags": tags, "cache": False, "callbacks": _without_tokens(inner.callbacks)}
        return inner.model_copy(update=update)  # type: ignore[no-any-return]
    bound = getattr(runnable, "config", None)
    if isinstance(runnable, RunnableBindingBase | DynamicRunnable) and bound and bound.get("callbacks"):
        return runnable.model_copy(update={"config": {**bound, "callbacks": _without_tokens(bound["callbacks"])}})
    changed: Runnable[Any, Any] = private_api.map_configurable_defaults(
        runnable, lambda given: given | {"cache": False, "callbacks": _without_tokens(given.get("callbacks"))}
    )
    return changed


def _handlers(callbacks: Callbacks) -> list[BaseCallbackHandler]:
    return list(callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or [])


def _without_tokens(callbacks: Callbacks) -> list[BaseCallbackHandler] | None:
    return without_tokens(_handlers(callbacks)) or None


def _check_hidden(model: BaseChatModel) -> None:
    """Refuse a model that a function calls, which cannot be replaced by a copy, where only a copy would be safe."""
    handlers = _handlers(model.callbacks)
    hears = without_tokens(handlers) != handlers
    if hears or isinstance(model.cache, BaseCache):
        what = "has handlers that hear tokens" if hears else "has a cache of its own"
        raise ConfigurationError(
            f"model: a {type(model).__name__} that a function calls {what}, which would see samples before the vote:"
            " remove that, or guard the chat model itself"
        )


class Unwrapped(NamedTuple):
    """A model without its bindings, and what they bind."""

    model: Runnable[Any, Any]
    kwargs: dict[str, Any]
    configs: list[RunnableConfig]
    """Innermost first; later ones win."""


def unwrap(model: Runnable[Any, Any]) -> Unwrapped:
    """Return the model inside its bindings, and what they bind."""
    kwargs: dict[str, Any] = {}
    configs: list[RunnableConfig] = []
    while isinstance(model, RunnableBinding):
        kwargs = {**model.kwargs, **kwargs}
        configs.insert(0, model.config)
        model = model.bound
    return Unwrapped(model, kwargs, configs)


class SampleCaller:
    """Asks a model for the samples of a wave; a failure is an outcome, not an exception.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        max_concurrency: Calls in flight at once; None for all of a wave.
    """

    def __init__(self, model: Runnable[Any, Any], *, max_concurrency: int | None = None) -> None:
        self._model = sample_model(model)
        self._inner, self._bound_kwargs, self._bound_configs = unwrap(self._model)
        self._max_concurrency = max_concurrency

    @property
    def _is_batched(self) -> bool:
        return isinstance(self._inner, BaseChatModel) and hasattr(self._inner, "generate_batch")

    def call(self, effect: CallModel, runs: SampleRuns, **kwargs: Any) -> list[Outcome]:
        """Ask for every sample of a wave, concurrently."""
        if self._is_batched:
            return self._call_batch(effect, runs, **kwargs)
        ask = partial(self._ask, runs=runs, kwargs=kwargs)
        with ContextThreadPoolExecutor(self._width(effect, runs)) as executor:
            return list(executor.map(ask, list(effect.requests), _indices(effect)))

    async def acall(self, effect: CallModel, runs: SampleRuns, **kwargs: Any) -> list[Outcome]:
        """Ask for every sample of a wave, concurrently; models that would block the event loop run in threads."""
        if self._is_batched:
            return await asyncio.to_thread(self._call_batch, effect, runs, **kwargs)
        if _blocks(self._inner):
            return await self._acall_in_threads(effect, runs, kwargs)
        semaphore = asyncio.Semaphore(self._width(effect, runs))

        async def ask(request: list[BaseMessage], index: int) -> Outcome:
            outcome: Outcome
            async with semaphore:
                try:
                    answer = await runs.acall(index, lambda config: self._model.ainvoke(request, config, **kwargs))
                    outcome = as_answer(answer)
                except Exception as error:
                    outcome = _failure(error)
            await runs.areport(index, outcome)
            return outcome

        return await asyncio.gather(*map(ask, effect.requests, _indices(effect)))

    async def _acall_in_threads(self, effect: CallModel, runs: SampleRuns, kwargs: dict[str, Any]) -> list[Outcome]:
        # Threads of our own: the loop's default executor has too few for a wave on a small machine.
        executor = ContextThreadPoolExecutor(self._width(effect, runs))
        ask = partial(self._ask, runs=runs, kwargs=kwargs)
        submit = partial(asyncio.get_running_loop().run_in_executor, executor, ask)
        try:
            return await asyncio.gather(*map(submit, effect.requests, _indices(effect)))
        finally:  # when cancelled: running calls cannot be stopped, but no more are started
            executor.shutdown(wait=False, cancel_futures=True)

    def _ask(self, request: list[BaseMessage], index: int, *, runs: SampleRuns, kwargs: dict[str, Any]) -> Outcome:
        outcome: Outcome
        try:
            outcome = as_answer(runs.call(index, lambda config: self._model.invoke(request, config, **kwargs)))
        except Exception as error:
            outcome = _failure(error)
        runs.report(index, outcome)
        return outcome

    def _width(self, effect: CallModel, runs: SampleRuns) -> int:
        limits = [self._max_concurrency, runs.max_concurrency, len(effect.requests)]
        return max(1, min(limit for limit in limits if limit is not None))

    def _call_batch(self, effect: CallModel, runs: SampleRuns, **kwargs: Any) -> list[Outcome]:
        """Ask in one forward pass; each sample is still a child run."""
        model: Any = self._inner
        children: list[CallbackManagerForLLMRun] = []
        for request, index in zip(effect.requests, _indices(effect), strict=True):
            children.extend(runs.call(index, partial(self._start_run, request)))
        try:
            answers = [
                as_answer(answer) for answer in model.generate_batch(effect.requests, **self._bound_kwargs | kwargs)
            ]
            if len(answers) != len(effect.requests):
                raise AdapterError(f"generate_batch answered {len(answers)} of {len(effect.requests)} requests")
        except BaseException as error:
            for run in children:
                run.on_llm_error(error)
            outcomes: list[Outcome] = [_failure(error)] * len(effect.requests)
        else:
            for run, answer in zip(children, answers, strict=True):
                run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))
            outcomes = list(answers)
        for index, outcome in zip(_indices(effect), outcomes, strict=True):
            runs.report(index, outcome)
        return outcomes

    def _start_run(self, request: list[BaseMessage], config: RunnableConfig) -> list[CallbackManagerForLLMRun]:
        """Notify the callbacks of one sample of a batch that it starts."""
        model: Any = self._inner
        config = merge_configs(*self._bound_configs, config)
        manager = CallbackManager.configure(
            config["callbacks"],
            model.callbacks,
            model.verbose,
            config["tags"],
            model.tags,
            config["metadata"],
            model.metadata,
        )
        traced = [message.model_copy(update={"content": _traceable(message.content)}) for message in request]
        return manager.on_chat_model_start(private_api.serialized(model), [traced])


def _failure(error: BaseException) -> Exception:
    """Return an error as the outcome of a sample, or raise what is not a failure, such as LangGraph's interrupts."""
    from langgraph.errors import GraphBubbleUp

    if isinstance(error, GraphBubbleUp) or not isinstance(error, Exception):
        raise error
    return error


def _blocks(model: Runnable[Any, Any]) -> bool:
    """Whether a model's async call is its sync call on the event loop's default executor."""
    if isinstance(model, BaseChatModel):
        return private_api.blocks_event_loop(model)
    if isinstance(model, RunnableBindingBase):  # such as `with_retry` returns
        return _blocks(model.bound)
    if isinstance(model, RunnableLambda):
        return not hasattr(model, "afunc")
    return type(model).ainvoke is Runnable.ainvoke


def as_answer(output: Any) -> AIMessage:
    """Return a model's output as a message.

    Raises:
        AdapterError: If it is neither an AI message nor text.
    """
    if isinstance(output, AIMessageChunk):
        output = message_chunk_to_message(output)
    if isinstance(output, AIMessage):
        return output
    if isinstance(output, str):
        return AIMessage(content=output)
    raise AdapterError(
        f"guarded model: expected an AIMessage or a string, got {type(output).__name__}; guard the chat model"
        " itself and put parsers after the guard"
    )


def _indices(effect: CallModel) -> range:
    return range(effect.first_index, effect.first_index + len(effect.requests))


def _traceable(content: Any) -> Any:
    """Return content for tracing, with tensors replaced by their shapes."""
    if isinstance(content, dict):
        return {key: _traceable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_traceable(value) for value in content]
    return f"tensor {tuple(content.shape)}" if isinstance(content, torch.Tensor) else content
