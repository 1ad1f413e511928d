"""`SmoothGuardChatModel`: a guarded chat model that is a chat model itself, for agents and structured output."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import ConfigDict, Field

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Judges
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.hosts._guarded_model import GuardedModel, named_model, with_record
from smoothguard_guardrail.hosts._model_proxy import AroundChatModel
from smoothguard_guardrail.hosts._replace_models import rewired
from smoothguard_guardrail.hosts._stream_run import RunKeeper, as_chunk, current_keeper
from smoothguard_guardrail.protocols import BenignScorer, Clusterer, Embedder, Perturber, Voter
from smoothguard_guardrail.result import GuardResult


class SmoothGuardChatModel(AroundChatModel):
    """A chat model around another: every answer is elected among samples over noisy copies of the media.

    Goes wherever a chat model goes: `create_agent(model=...)`, `bind_tools`, `with_structured_output`, streaming.
    Answers that are tool calls or JSON objects are grouped by what they call or parse to, and one sample is returned
    whole. A stream is one chunk, after the vote. `response_metadata["smoothguard"]` holds the record as plain JSON.

    Tokens are counted once. By default samples are no runs of their own and `usage_metadata` is their sum; with
    `trace_samples=True` each sample is a child run that reports its tokens, and the sum stands in the record alone.

    Args:
        inner: The chat model to guard, or a string for `langchain.chat_models.init_chat_model`.
        config: Every knob.
        embedder: Embeds the answers: any LangChain `Embeddings`. Default: the packaged all-MiniLM-L6-v2.
        clusterer: Groups embedded answers; takes the place of `config.clusterer`.
        benign_scorer: Scores how benign answers are, in [-1, 1]. Default: distance to prototypes.
        perturber: Perturbs media; takes the place of noise, low-pass, shift and resize.
        voter: Elects a cluster; takes the place of the benign-weighted vote.
        **options: Fields of every chat model: `callbacks`, `tags`, `metadata`, `rate_limiter`, ...

    Raises:
        ConfigurationError: If the inner model is neither a chat model nor a string that names one; if an option is
            none of a chat model's. Parameters of the model, as `temperature`, belong to the inner model.
        ImportError: If the package of the named model's provider is missing.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardChatModel
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> chat = SmoothGuardChatModel(inner=ScriptedChatModel(script=["Hello."]))
        >>> [chunk.content for chunk in chat.stream("Hi!")]
        ['Hello.']
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, ignored_types=(cached_property,))

    config: SmoothGuardConfig = Field(default_factory=SmoothGuardConfig)
    embedder: Any = Field(default=None, exclude=True)
    clusterer: Any = Field(default=None, exclude=True)
    benign_scorer: Any = Field(default=None, exclude=True)
    perturber: Any = Field(default=None, exclude=True)
    voter: Any = Field(default=None, exclude=True)
    cache: BaseCache | bool | None = Field(default=False, exclude=True)
    """Off by default: an answer from a cache would carry the record of another call."""

    def __init__(
        self,
        *,
        inner: BaseChatModel | str,
        config: SmoothGuardConfig | None = None,
        embedder: Embedder | None = None,
        clusterer: Clusterer | None = None,
        benign_scorer: BenignScorer | None = None,
        perturber: Perturber | None = None,
        voter: Voter | None = None,
        **options: Any,
    ) -> None:
        inner = named_model(inner) if isinstance(inner, str) else inner
        if not isinstance(inner, BaseChatModel):
            raise ConfigurationError(f"inner must be a chat model or a string, not {type(inner).__name__}")
        if unknown := sorted(options.keys() - type(self).model_fields.keys()):
            raise ConfigurationError(f"unknown: {', '.join(unknown)}; the model's own parameters belong to `inner`")
        super().__init__(
            inner=inner,
            config=config or SmoothGuardConfig(),
            embedder=embedder,
            clusterer=clusterer,
            benign_scorer=benign_scorer,
            perturber=perturber,
            voter=voter,
            **options,
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
            NotImplementedError: If the inner model knows no tools.
            ConfigurationError: If what the inner model binds them to holds no chat model that could be guarded.
        """
        return self._guarding(self.inner.bind_tools(tools, tool_choice=tool_choice, **kwargs))

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable that answers by a schema, in the inner model's own way.

        Raises:
            NotImplementedError: If the inner model knows neither structured output nor tools.
            ConfigurationError: If the inner model's way holds no chat model that could be guarded.
        """
        return self._guarding(self.inner.with_structured_output(schema, include_raw=include_raw, **kwargs))

    def _guarding(self, runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """Put this guard around every chat model inside of what the inner model made of itself."""
        guarded: Runnable[Any, Any] = rewired(runnable, self._around)
        if guarded is runnable:
            raise ConfigurationError(
                f"{type(self.inner).__name__} hides its chat model in a {type(runnable).__name__}, where it cannot be"
                " guarded; put SmoothGuardRunnable around it instead"
            )
        return guarded

    def _around(self, model: BaseChatModel) -> BaseChatModel:
        return self if model is self.inner else self.model_copy(update={"inner": model})

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        """Yield the elected answer as one chunk, after the vote."""
        keeper = RunKeeper(config, self.callbacks)
        stream = super().stream(input, keeper.config, **kwargs)
        token = current_keeper.set(keeper)
        try:
            chunk = next(stream)
        finally:
            current_keeper.reset(token)
        yield chunk
        yield from stream

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """Yield the elected answer as one chunk, after the vote."""
        keeper = RunKeeper(config, self.callbacks)
        stream = super().astream(input, keeper.config, **kwargs)
        token = current_keeper.set(keeper)
        try:
            chunk = await anext(stream)
        finally:
            current_keeper.reset(token)
        yield chunk
        async for rest in stream:
            yield rest

    def _should_stream(self, *, run_manager: Any = None, **_: Any) -> bool:
        # An `invoke` that someone listens to comes with a manager: `_generate`, unlike `_stream`, is given it.
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
        parent = run_manager or _kept_run()
        answer = self._answer(self._guarded.run(messages, parent, **_given(stop), **kwargs), parent)
        yield ChatGenerationChunk(message=as_chunk(answer))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        parent = run_manager or _kept_run()
        answer = self._answer(await self._guarded.arun(messages, parent, **_given(stop), **kwargs), parent)
        yield ChatGenerationChunk(message=as_chunk(answer))

    def _answer(self, result: GuardResult, run: BaseRunManager | None) -> AIMessage:
        answer = with_record(result)
        if answer.id is None and run:
            # Before anyone is told of a token: graphs know by the id that the token and the answer are one.
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
        judges = Judges(
            self.config,
            embedder=self.embedder,
            clusterer=self.clusterer,
            benign_scorer=self.benign_scorer,
            voter=self.voter,
        )
        return GuardedModel(
            self.inner, self.config, judges=judges, perturber=self.perturber, traced=self._traces_samples
        )

    def __copy__(self) -> Self:
        """Return a copy without what was built from these fields: `model_copy(update=...)` changes them."""
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
    """Return `stop` as a keyword argument where it is given: None would undo one that is bound."""
    return {} if stop is None else {"stop": stop}


def _kept_run() -> BaseRunManager | None:
    keeper = current_keeper.get()
    return keeper.run if keeper else None
