"""How LangChain hosts ask a model for many samples at once: concurrently, or as one true batch."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import torch
from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManager,
    CallbackManagerForChainRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, patch_config

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
    return model.with_config(tags=[NO_STREAM_TAG, SAMPLE_TAG])


def unwrap(model: Runnable[Any, Any]) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """Return the model inside its bindings, and the keyword arguments that they bind."""
    bound: dict[str, Any] = {}
    while isinstance(model, RunnableBinding):
        bound = {**model.kwargs, **bound}
        model = model.bound
    return model, bound


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
        self._inner, self._bound_kwargs = unwrap(self._model)
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
            return self._call_batch(effect, run_manager, **kwargs)
        ask = partial(self._ask, run_manager=run_manager, config=config, kwargs=kwargs)
        indices = range(effect.first_index, effect.first_index + len(effect.requests))
        with ContextThreadPoolExecutor(self._width(effect, config)) as executor:
            return list(executor.map(ask, list(effect.requests), indices))

    async def acall(
        self,
        effect: CallModel,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> list[Outcome]:
        """Ask for every sample of a wave, concurrently, off the event loop where the model would block it."""
        if self._is_batched or self._blocks:
            # Threads of our own: the loop's default executor has too few for a wave on a small machine.
            call = partial(self.call, effect, run_manager.get_sync(), config, **kwargs)
            return await asyncio.to_thread(call)
        semaphore = asyncio.Semaphore(self._width(effect, config))

        async def ask(request: list[BaseMessage], index: int) -> Outcome:
            async with semaphore:
                child = self._child_config(run_manager.get_child(_tag(index)), config)
                try:
                    return as_answer(await self._model.ainvoke(request, child, **kwargs))
                except Exception as error:
                    return error

        return list(
            await asyncio.gather(
                *(ask(request, effect.first_index + offset) for offset, request in enumerate(effect.requests))
            )
        )

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
            return as_answer(self._model.invoke(request, child, **kwargs))
        except Exception as error:
            return error

    def _child_config(self, callbacks: Any, config: RunnableConfig) -> RunnableConfig:
        # An empty manager, not None: None would inherit the parent's callbacks from the context.
        return patch_config(config, callbacks=callbacks if self._trace_samples else CallbackManager([]))

    def _width(self, effect: CallModel, config: RunnableConfig) -> int:
        limits = [self._max_concurrency, config.get("max_concurrency"), len(effect.requests)]
        return min(limit for limit in limits if limit is not None)

    @property
    def _blocks(self) -> bool:
        """Whether the model's async call is its sync call on the loop's default executor."""
        if isinstance(self._inner, BaseChatModel):
            chat = type(self._inner)
            return chat._agenerate is BaseChatModel._agenerate and chat._astream is BaseChatModel._astream
        return type(self._inner).ainvoke is Runnable.ainvoke

    def _call_batch(self, effect: CallModel, run_manager: CallbackManagerForChainRun, **kwargs: Any) -> list[Outcome]:
        """Ask as one forward pass, each sample still a child run of its own."""
        model: Any = self._inner
        kwargs = self._bound_kwargs | kwargs
        runs = []
        for offset, request in enumerate(effect.requests):
            child = run_manager.get_child(_tag(effect.first_index + offset))
            manager = CallbackManager.configure(
                child if self._trace_samples else CallbackManager([]),
                model.callbacks,
                model.verbose,
                None,
                model.tags,
                None,
                model.metadata,
            )
            traced = [_without_tensors(message) for message in request]
            runs.extend(manager.on_chat_model_start(model._serialized, [traced]))
        try:
            answers = model.generate_batch(effect.requests, **kwargs)
            if len(answers) != len(effect.requests):
                raise AdapterError(f"generate_batch answered {len(answers)} of {len(effect.requests)} requests")
        except Exception as error:
            for run in runs:
                run.on_llm_error(error)
            return [error] * len(effect.requests)
        for run, answer in zip(runs, answers, strict=True):
            run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))
        return [as_answer(answer) for answer in answers]


def as_answer(output: Any) -> AIMessage:
    """Return a model's output as a message.

    Raises:
        AdapterError: If it is neither a message of the model nor text.
    """
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


def _without_tensors(message: BaseMessage) -> BaseMessage:
    """Return a message for tracing: in-process tensors named by their shape."""
    if not isinstance(message.content, list):
        return message
    blocks = [
        {
            key: f"tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
            for key, value in block.items()
        }
        if isinstance(block, dict)
        else block
        for block in message.content
    ]
    return message.model_copy(update={"content": blocks})
