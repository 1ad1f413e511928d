"""`SmoothGuardChatModel`: a guarded chat model that is a chat model itself, for agents and structured output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field, InstanceOf

from smoothguard_guardrail.config import SmoothGuardConfig, require_config
from smoothguard_guardrail.core.components import GuardComponents, require_components
from smoothguard_guardrail.core.wrapped_models import map_runnables
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.hosts._guarded_model import GuardedModel, with_record
from smoothguard_guardrail.hosts._model_proxy import ChatModelProxy
from smoothguard_guardrail.hosts._stream_run import StreamRun, as_chunk, current_stream_run
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.result import GuardResult


class SmoothGuardChatModel(ChatModelProxy):
    """A guarded chat model: every answer is elected from samples over noisy copies of the media.

    Use it like any chat model: `create_agent(model=...)`, `bind_tools`, `with_structured_output`, streaming. Answers
    that are tool calls or JSON objects are grouped by what they call or parse to, and one sample is returned whole. A
    stream is one chunk, after the vote. `response_metadata["smoothguard"]` contains the record as plain JSON.

    Tokens are counted once. By default samples are not runs of their own and `usage_metadata` is their sum; with
    `trace_samples=True` each sample is a child run that reports its tokens, and the sum is in the record only.

    Args:
        model: The chat model to guard, or a name for `smoothguard_guardrail.models.load_model`.
        config: The guard's configuration.
        components: Parts of your own instead of the configured ones.
        **options: Fields of every chat model: `callbacks`, `tags`, `metadata`, `rate_limiter`, ...

    Raises:
        ConfigurationError: If the model is neither a chat model nor the name of one that can be loaded; if an option
            is not a field of every chat model. Parameters such as `temperature` belong to the guarded model.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardChatModel
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> chat = SmoothGuardChatModel(ScriptedChatModel(script=["Hello."]))
        >>> [chunk.content for chunk in chat.stream("Hi!")]
        ['Hello.']
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True, ignored_types=(cached_property,))

    # Field by field: LangChain itself sets a chat model's `metadata`.
    config: SmoothGuardConfig = Field(frozen=True)
    components: InstanceOf[GuardComponents] = Field(exclude=True, frozen=True)
    cache: BaseCache | bool | None = Field(default=False, exclude=True)
    """Off by default: an answer from a cache would carry the record of another call."""

    def __init__(
        self,
        model: BaseChatModel | str,
        config: SmoothGuardConfig | None = None,
        *,
        components: GuardComponents | None = None,
        **options: Any,
    ) -> None:
        inner = load_model(model) if isinstance(model, str) else model
        if not isinstance(inner, BaseChatModel):
            raise ConfigurationError(f"model: expected a chat model or a string, got {type(inner).__name__}")
        if unknown := sorted(options.keys() - type(self).model_fields.keys()):
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)}: parameters of the model belong to the guarded model"
            )
        super().__init__(
            inner=inner, config=require_config(config), components=require_components(components), **options
        )

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to the guarded model, in the inner model's own form.

        Raises:
            NotImplementedError: If the inner model does not support tools.
            ConfigurationError: If there is no chat model to guard in what the inner model returns.
        """
        return self._guarding(self.inner.bind_tools(tools, tool_choice=tool_choice, **kwargs))

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable that answers by a schema, in the inner model's own way.

        Raises:
            NotImplementedError: If the inner model supports neither structured output nor tools.
            ConfigurationError: If there is no chat model to guard in what the inner model returns.
        """
        return self._guarding(self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs))

    def _guarding(self, runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """Guard every chat model inside what the inner model returned."""
        guarded: Runnable[Any, Any] = map_runnables(runnable, self._around)
        if guarded is runnable:
            raise ConfigurationError(
                f"{type(self.inner).__name__} hides its chat model in a {type(runnable).__name__}, where it cannot be"
                " guarded; put SmoothGuardRunnable around it instead"
            )
        return guarded

    def _around(self, part: Runnable[Any, Any]) -> Runnable[Any, Any]:
        if not isinstance(part, BaseChatModel):
            return part
        return self if part is self.inner else self.model_copy(update={"inner": part})

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        """Yield the elected answer as one chunk, after the vote."""
        stream_run = StreamRun(config, self.callbacks)
        stream = super().stream(input, stream_run.config, **kwargs)
        token = current_stream_run.set(stream_run)
        try:
            chunk = next(stream)
        finally:
            current_stream_run.reset(token)
        yield chunk
        yield from stream

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the elected answer as one chunk, after the vote."""
        stream_run = StreamRun(config, self.callbacks)
        stream = super().astream(input, stream_run.config, **kwargs)
        token = current_stream_run.set(stream_run)
        try:
            chunk = await anext(stream)
        finally:
            current_stream_run.reset(token)
        yield chunk
        async for rest in stream:
            yield rest

    def _should_stream(self, *, run_manager: Any = None, **_: Any) -> bool:
        # An `invoke` with listeners has a manager, which `_generate`, unlike `_stream`, receives.
        return run_manager is None

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        answer = self._answer(self._guarded.run(messages, run_manager, **_given(stop), **kwargs), run_manager)
        if run_manager:
            run_manager.on_llm_new_token(answer.text, chunk=ChatGenerationChunk(message=as_chunk(answer)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = await self._guarded.arun(messages, run_manager, **_given(stop), **kwargs)
        answer = self._answer(result, run_manager)
        if run_manager:
            await run_manager.on_llm_new_token(answer.text, chunk=ChatGenerationChunk(message=as_chunk(answer)))
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        parent = run_manager or _stream_run()
        answer = self._answer(self._guarded.run(messages, parent, **_given(stop), **kwargs), parent)
        yield ChatGenerationChunk(message=as_chunk(answer))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        parent = run_manager or _stream_run()
        answer = self._answer(await self._guarded.arun(messages, parent, **_given(stop), **kwargs), parent)
        yield ChatGenerationChunk(message=as_chunk(answer))

    def _answer(self, result: GuardResult, run: BaseRunManager | None) -> AIMessage:
        answer = with_record(result)
        if answer.id is None and run:
            # Set before the first token is sent: graphs match the token and the answer by this id.
            answer.id = f"lc_run--{run.run_id}"
        if self._traces_samples:
            answer.usage_metadata = None
        if self.output_version == "v1":
            answer.content = [*answer.content_blocks]  # type: ignore[list-item]
            answer.response_metadata["output_version"] = "v1"
        return answer

    @property
    def _traces_samples(self) -> bool:
        return self.config.trace_samples is True

    @cached_property
    def _guarded(self) -> GuardedModel:
        return GuardedModel(self.inner, self.config, components=self.components, traced=self._traces_samples)

    def __copy__(self) -> Self:
        """Return a copy that builds its guard again, since `model_copy(update=...)` changes the fields."""
        copied = super().__copy__()
        copied.__dict__.pop("_guarded", None)
        return copied

    @property
    def _identifying_params(self) -> dict[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"seed"})
        return {**super()._identifying_params, "guard": config}

    @property
    def _llm_type(self) -> str:
        return "smoothguard"


def _given(stop: list[str] | None) -> dict[str, Any]:
    """Return `stop` as a keyword argument where it is given: None would override a bound one."""
    return {} if stop is None else {"stop": stop}


def _stream_run() -> BaseRunManager | None:
    stream_run = current_stream_run.get()
    return stream_run.run if stream_run else None
