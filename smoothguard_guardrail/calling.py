"""How LangChain hosts ask a model for many samples at once: concurrently, or as one true batch."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManager,
    CallbackManagerForChainRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import ContextThreadPoolExecutor, merge_configs, patch_config

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.guard import CallModel, Outcome

SAMPLE_TAG = "smoothguard:sample"
# langgraph's TAG_NOSTREAM: without it on the model itself, every sample's tokens reach the user of
# `stream_mode="messages"`.
NO_STREAM_TAG = "nostream"


def sample_model(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return a copy of a model whose calls are samples: tagged, not streamed to users, never cached.

    Near-identical requests must not share one cached answer, or the vote would be unanimous by construction.
    """
    if isinstance(model, BaseChatModel):
        tags = [*(model.tags or []), NO_STREAM_TAG, SAMPLE_TAG]
        return model.model_copy(update={"tags": tags, "cache": False})
    if isinstance(model, RunnableBinding):
        return model.model_copy(update={"bound": sample_model(model.bound)})
    # Not `with_config`: that of a configurable Runnable keeps the callbacks of whatever run it is called in.
    return RunnableBinding(bound=model, kwargs={}, config={"tags": [NO_STREAM_TAG, SAMPLE_TAG]})


class Unwrapped(NamedTuple):
    """A model without its bindings, and what they bind."""

    model: Runnable[Any, Any]
    kwargs: dict[str, Any]
    configs: list[RunnableConfig]
    """The innermost binding's first: later ones win."""


def unwrap(model: Runnable[Any, Any]) -> Unwrapped:
    """Return the model inside its bindings, and the keyword arguments and configuration that they bind."""
    kwargs: dict[str, Any] = {}
    configs: list[RunnableConfig] = []
    while isinstance(model, RunnableBinding):
        kwargs = {**model.kwargs, **kwargs}
        configs.insert(0, model.config)
        model = model.bound
    return Unwrapped(model, kwargs, configs)


class SampleCaller:
    """Asks one model for the samples of a wave; a failure is an outcome, never an exception.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        max_concurrency: Calls in flight at once; None for all of a wave.
        trace_samples: Whether each sample is a child run of the guard's run.
    """

    def __init__(
        self, model: Runnable[Any, Any], *, max_concurrency: int | None = None, trace_samples: bool = True
    ) -> None:
        self._model = sample_model(model)
        self._inner, self._bound_kwargs, self._bound_configs = unwrap(self._model)
        self._max_concurrency = max_concurrency
        self._trace_samples = trace_samples

    @property
    def _is_batched(self) -> bool:
        return isinstance(self._inner, BaseChatModel) and hasattr(self._inner, "generate_batch")

    def call(
        self,
        effect: CallModel,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Ask for every sample of a wave, concurrently."""
        if self._is_batched:
            return self._call_batch(effect, run_manager, config, **kwargs)
        ask = partial(self._ask, run_manager=run_manager, config=config, kwargs=kwargs)
        with ContextThreadPoolExecutor(self._width(effect, config)) as executor:
            return list(executor.map(ask, list(effect.requests), _indices(effect)))

    async def acall(
        self,
        effect: CallModel,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Ask for every sample of a wave, concurrently, off the event loop where the model would block it."""
        if self._is_batched:
            return await asyncio.to_thread(self._call_batch, effect, run_manager.get_sync(), config, **kwargs)
        if _blocks(self._inner):
            return await self._acall_in_threads(effect, run_manager.get_sync(), config, kwargs)
        semaphore = asyncio.Semaphore(self._width(effect, config))

        async def ask(request: list[BaseMessage], index: int) -> Outcome:
            async with semaphore:
                child = self._child_config(run_manager.get_child(_tag(index)), config)
                try:
                    with self._tracing():
                        return as_answer(await self._model.ainvoke(request, child, **kwargs))
                except Exception as error:
                    return error

        return await asyncio.gather(*map(ask, effect.requests, _indices(effect)))

    async def _acall_in_threads(
        self,
        effect: CallModel,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        kwargs: dict[str, Any],
    ) -> list[Outcome]:
        # Threads of our own: the loop's default executor has too few for a wave on a small machine.
        executor = ContextThreadPoolExecutor(self._width(effect, config))
        ask = partial(self._ask, run_manager=run_manager, config=config, kwargs=kwargs)
        submit = partial(asyncio.get_running_loop().run_in_executor, executor, ask)
        try:
            return await asyncio.gather(*map(submit, effect.requests, _indices(effect)))
        finally:  # when cancelled: what is under way cannot be stopped, but nothing more is asked
            executor.shutdown(wait=False, cancel_futures=True)

    def _ask(
        self,
        request: list[BaseMessage],
        index: int,
        *,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        kwargs: dict[str, Any],
    ) -> Outcome:
        child = self._child_config(run_manager.get_child(_tag(index)), config)
        try:
            with self._tracing():
                return as_answer(self._model.invoke(request, child, **kwargs))
        except Exception as error:
            return error

    def _tracing(self) -> AbstractContextManager[Any]:
        """Keep LangSmith, which traces by the environment and without a callback, from untraced samples."""
        if self._trace_samples:
            return nullcontext()
        from langsmith import tracing_context

        return tracing_context(enabled=False)

    def _child_config(self, callbacks: Any, config: RunnableConfig) -> RunnableConfig:
        # An empty manager, not None: None would inherit the parent's callbacks from the context.
        return patch_config(config, callbacks=callbacks if self._trace_samples else CallbackManager([]))

    def _width(self, effect: CallModel, config: RunnableConfig) -> int:
        limits = [self._max_concurrency, config.get("max_concurrency"), len(effect.requests)]
        return max(1, min(limit for limit in limits if limit is not None))

    def _call_batch(
        self, effect: CallModel, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> list[Outcome]:
        """Ask as one forward pass, each sample still a child run of its own."""
        model: Any = self._inner
        runs: list[CallbackManagerForLLMRun] = []
        for request, index in zip(effect.requests, _indices(effect), strict=True):
            child = self._child_config(run_manager.get_child(_tag(index)), config)
            child = merge_configs(*self._bound_configs, child)
            with self._tracing():
                manager = CallbackManager.configure(
                    child["callbacks"],
                    model.callbacks,
                    model.verbose,
                    child["tags"],
                    model.tags,
                    child["metadata"],
                    model.metadata,
                )
            traced = [message.model_copy(update={"content": _named(message.content)}) for message in request]
            runs.extend(manager.on_chat_model_start(model._serialized, [traced]))
        try:
            answers = [
                as_answer(answer) for answer in model.generate_batch(effect.requests, **self._bound_kwargs | kwargs)
            ]
            if len(answers) != len(effect.requests):
                raise AdapterError(f"generate_batch answered {len(answers)} of {len(effect.requests)} requests")
        except BaseException as error:
            for run in runs:
                run.on_llm_error(error)
            if not isinstance(error, Exception):
                raise
            return [error] * len(effect.requests)
        for run, answer in zip(runs, answers, strict=True):
            run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))
        return list(answers)


def _blocks(model: Runnable[Any, Any]) -> bool:
    """Whether a model's async call is its sync call on the event loop's default executor."""
    if isinstance(model, BaseChatModel):
        chat = type(model)
        return chat._agenerate is BaseChatModel._agenerate and chat._astream is BaseChatModel._astream
    if isinstance(model, RunnableBindingBase):  # as `with_retry` makes
        return _blocks(model.bound)
    if isinstance(model, RunnableLambda):
        return not hasattr(model, "afunc")
    return type(model).ainvoke is Runnable.ainvoke


def as_answer(output: Any) -> AIMessage:
    """Return a model's output as a message.

    Raises:
        AdapterError: If it is neither a message of the model nor text.
    """
    if isinstance(output, AIMessageChunk):
        output = message_chunk_to_message(output)
    if isinstance(output, AIMessage):
        return output
    if isinstance(output, str):
        return AIMessage(content=output)
    raise AdapterError(
        f"the guarded model must return an AIMessage or a string, not {type(output).__name__}; guard the chat "
        "model itself and put parsers after the guard"
    )


def _tag(index: int) -> str:
    return f"{SAMPLE_TAG}:{index}"


def _indices(effect: CallModel) -> range:
    return range(effect.first_index, effect.first_index + len(effect.requests))


def _named(content: Any) -> Any:
    """Return content for tracing: tensors named by their shape."""
    if isinstance(content, dict):
        return {key: _named(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_named(value) for value in content]
    return f"tensor {tuple(content.shape)}" if isinstance(content, torch.Tensor) else content
