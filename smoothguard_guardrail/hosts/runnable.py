"""`SmoothGuardRunnable`: a guarded multimodal chat model for LCEL chains."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Judges
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.hosts._guarded_model import GuardedModel, named_model, with_record
from smoothguard_guardrail.protocols import BenignScorer, Clusterer, Embedder, Perturber, Voter
from smoothguard_guardrail.result import GuardResult


class SmoothGuardRunnable(RunnableSerializable[LanguageModelInput, AIMessage]):
    """A chat model behind the guard, to be used wherever the chat model was.

    `invoke` and `ainvoke` return the elected answer as an `AIMessage` whose `response_metadata["smoothguard"]`
    holds the record as plain JSON and whose `usage_metadata` is the sum over the samples. `guard` and `aguard`
    return the whole `GuardResult`. None of the guard's knobs is configurable at call time: a remote caller must
    not be able to turn it down.

    Args:
        model: A chat model, any Runnable from messages to a message or text, or a string for
            `langchain.chat_models.init_chat_model`, as `"openai:gpt-4o"`.
        config: Every knob.
        embedder: Embeds the answers: any LangChain `Embeddings`. Default: the packaged all-MiniLM-L6-v2.
        clusterer: Groups embedded answers; takes the place of `config.clusterer`.
        benign_scorer: Scores how benign answers are, in [-1, 1]. Default: distance to prototypes.
        perturber: Perturbs media; takes the place of noise, low-pass, shift and resize.
        voter: Elects a cluster; takes the place of the benign-weighted vote.

    Raises:
        ConfigurationError: If the model is neither a Runnable nor a string that names one.
        ImportError: If the package of the named model's provider is missing.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> SmoothGuardRunnable(ScriptedChatModel(script=["Hello."])).invoke("Hi!").content
        'Hello.'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True, ignored_types=(cached_property,))

    model: Any
    config: SmoothGuardConfig = Field(default_factory=SmoothGuardConfig)
    embedder: Any = None
    clusterer: Any = None
    benign_scorer: Any = None
    perturber: Any = None
    voter: Any = None

    def __init__(
        self,
        model: Runnable[Any, Any] | str,
        *,
        config: SmoothGuardConfig | None = None,
        embedder: Embedder | None = None,
        clusterer: Clusterer | None = None,
        benign_scorer: BenignScorer | None = None,
        perturber: Perturber | None = None,
        voter: Voter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model=_as_runnable(model),
            config=config or SmoothGuardConfig(),
            embedder=embedder,
            clusterer=clusterer,
            benign_scorer=benign_scorer,
            perturber=perturber,
            voter=voter,
            **kwargs,
        )

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Return the elected answer.

        Args:
            input: What chat models take: text, a prompt value or messages.
            config: Callbacks, tags, metadata, `max_concurrency`.
            **kwargs: Passed on to the model, as `stop`.

        Raises:
            InputError: If the input is nothing that a chat model takes.
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If a user's part broke its protocol.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """Return the elected answer; see `invoke`."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def guard(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> GuardResult:
        """Return the elected answer and the evidence for it; see `invoke`."""
        return self._call_with_config(self._guard, input, config, **kwargs)  # type: ignore[return-value, arg-type]

    async def aguard(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> GuardResult:
        """Return the elected answer and the evidence for it; see `invoke`."""
        return await self._acall_with_config(self._aguard, input, config, **kwargs)  # type: ignore[return-value, arg-type]

    def __copy__(self) -> Self:
        """Return a copy without what was built from these fields: `model_copy(update=...)` changes them."""
        copied = super().__copy__()
        copied.__dict__.pop("_guarded", None)
        return copied

    @cached_property
    def _guarded(self) -> GuardedModel:
        judges = Judges(
            self.config,
            embedder=self.embedder,
            clusterer=self.clusterer,
            benign_scorer=self.benign_scorer,
            voter=self.voter,
        )
        traced = self.config.trace_samples is not False
        return GuardedModel(self.model, self.config, judges=judges, perturber=self.perturber, traced=traced)

    def _guard(
        self,
        input: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> GuardResult:
        return self._guarded.run(input, run_manager, config, **kwargs)

    async def _aguard(
        self,
        input: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> GuardResult:
        return await self._guarded.arun(input, run_manager, config, **kwargs)

    def _answer(
        self,
        input: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        return with_record(self._guard(input, run_manager, config, **kwargs))

    async def _aanswer(
        self,
        input: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        return with_record(await self._aguard(input, run_manager, config, **kwargs))


def _as_runnable(model: Runnable[Any, Any] | str) -> Runnable[Any, Any]:
    model = named_model(model) if isinstance(model, str) else model
    if not isinstance(model, Runnable):
        raise ConfigurationError(f"the model must be a chat model, a Runnable or a string, not {type(model).__name__}")
    return model
