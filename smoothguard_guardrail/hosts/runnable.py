"""`SmoothGuardRunnable`: a guarded multimodal chat model for LCEL chains."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, NoReturn, Self

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, Field, InstanceOf

from smoothguard_guardrail.config import SmoothGuardConfig, require_config
from smoothguard_guardrail.core.answer_classes import AnswerClass
from smoothguard_guardrail.core.components import GuardComponents, require_components
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.hosts._guarded_model import GuardedModel, with_record
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.result import (
    GuardResult,
    NoiseCertificate,
    PatchCertificate,
    PatchDecision,
    PerturbedRequest,
)


class SmoothGuardRunnable(RunnableSerializable[LanguageModelInput, AIMessage]):
    """A guarded chat model for LCEL chains, used wherever the chat model was.

    `invoke` and `ainvoke` return the elected answer as an `AIMessage` whose `response_metadata["smoothguard"]`
    contains the record as plain JSON and whose `usage_metadata` is the sum over the samples. `guard` and `aguard`
    return the whole `GuardResult`. No setting of the guard can be changed at call time: a remote caller must not be
    able to weaken it.

    Args:
        model: A chat model, any Runnable from messages to a message or text, or a name for
            `smoothguard_guardrail.models.load_model`, such as `"openai:gpt-4o"`.
        config: The guard's configuration.
        components: Parts of your own instead of the configured ones.

    Raises:
        ConfigurationError: If an argument has the wrong type, or the named model cannot be loaded.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> SmoothGuardRunnable(ScriptedChatModel(script=["Hello."])).invoke("Hi!").content
        'Hello.'
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        arbitrary_types_allowed=True, frozen=True, ignored_types=(cached_property,)
    )

    model: Any
    config: SmoothGuardConfig
    components: InstanceOf[GuardComponents] = Field(exclude=True)

    def __init__(
        self,
        model: Runnable[Any, Any] | str,
        config: SmoothGuardConfig | None = None,
        *,
        components: GuardComponents | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model=_as_runnable(model),
            config=require_config(config),
            components=require_components(components),
            **kwargs,
        )

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """Return the elected answer.

        Args:
            input: Text, a prompt value or messages.
            config: Callbacks, tags, metadata, `max_concurrency`.
            **kwargs: Passed on to the model, such as `stop`.

        Raises:
            InputError: If the input is not text, a prompt value or messages.
            MediaError: If a medium cannot be guarded and `config.media.on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `config.vote.on_abstain` is `raise`.
            AdapterError: If one of your components broke its protocol.
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

    def perturb(self, input: LanguageModelInput) -> PerturbedRequest:
        """Return one noisy copy of a request, for a model that is asked elsewhere, once and without a vote.

        It protects less than a vote: an attack that survives this noise is not noticed. Media stay in the shapes in
        which they came.

        Raises:
            InputError: If the input is not text, a prompt value or messages.
            MediaError: If a medium cannot be guarded and `config.media.on_unsupported` is `error`.
            AdapterError: If one of your perturbers broke its protocol.
        """
        return self._guarded.perturb(input)

    async def aperturb(self, input: LanguageModelInput) -> PerturbedRequest:
        """Return one noisy copy of a request; see `perturb`."""
        return await self._guarded.aperturb(input)

    def certify(
        self,
        input: LanguageModelInput,
        *,
        num_samples: int = 1000,
        alpha: float = 0.001,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> NoiseCertificate:
        """Certify how far the images may be changed without changing the class of most answers to noisy copies.

        Args:
            input: Text, a prompt value or messages, with at least one image.
            num_samples: Number of model calls, at least 10; more give a larger radius.
            alpha: Probability that the certificate is wrong.
            by: What tells the classes of answers apart: `stance`, `yes_no`, `action` (tool calls and media), `key`
                (exact answers), or a function from an answer to the name of its class.
            **kwargs: Passed on to the model.

        Raises:
            ConfigurationError: If the guard's configuration adds anything but noise, or an argument is out of range.
            MediaError: If the request has no image, or a medium that is not one.
            QuorumError: If no call answered that could choose the class.

        Source: Cohen et al. 2019, Certified adversarial robustness via randomized smoothing.
        """
        return self._guarded.certify(
            input, by, lambda certifier: certifier.noise(num_samples=num_samples, alpha=alpha), **kwargs
        )

    async def acertify(
        self,
        input: LanguageModelInput,
        *,
        num_samples: int = 1000,
        alpha: float = 0.001,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> NoiseCertificate:
        """Certify a class of answers under noise; see `certify`."""
        return await self._guarded.acertify(
            input, by, lambda certifier: certifier.noise(num_samples=num_samples, alpha=alpha), **kwargs
        )

    def certify_patch(
        self,
        input: LanguageModelInput,
        *,
        patch: float = 0.1,
        windows_per_axis: int = 4,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> PatchCertificate:
        """Certify that no patch of a size could change the class of the answer that `decide_with_windows` finds.

        It covers every window, and every pair of windows, of a set in which some window covers any such patch; with k
        windows per axis these are k^2 (k^2 + 1) / 2 calls. No noise is added. The model must be deterministic.

        Args:
            input: Text, a prompt value or messages, with exactly one image.
            patch: Sides of the largest patch, as a share of the image's sides.
            windows_per_axis: Number of windows along each axis; more cover less at a time.
            by: What tells the classes of answers apart; see `certify`.
            **kwargs: Passed on to the model.

        Raises:
            ConfigurationError: If an argument is out of range, or the request has several images.
            MediaError: If the request has no image, or a medium that is not one.

        Source: Xiang et al. 2022, PatchCleanser (arXiv 2108.09135).
        """
        return self._guarded.certify(
            input, by, lambda certifier: certifier.patch(patch=patch, per_axis=windows_per_axis), **kwargs
        )

    async def acertify_patch(
        self,
        input: LanguageModelInput,
        *,
        patch: float = 0.1,
        windows_per_axis: int = 4,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> PatchCertificate:
        """Certify a class of answers under patches; see `certify_patch`."""
        return await self._guarded.acertify(
            input, by, lambda certifier: certifier.patch(patch=patch, per_axis=windows_per_axis), **kwargs
        )

    def decide_with_windows(
        self,
        input: LanguageModelInput,
        *,
        patch: float = 0.1,
        windows_per_axis: int = 4,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> PatchDecision:
        """Decide the class of the answer by covering windows of the image, which a patch certificate is about.

        Args and errors are those of `certify_patch`, and a `QuorumError` if the model fails. It takes k^2 calls if all
        answers are of one class, and up to k^2 more for each answer that differs.
        """
        return self._guarded.certify(
            input, by, lambda certifier: certifier.decide(patch=patch, per_axis=windows_per_axis), **kwargs
        )

    async def adecide_with_windows(
        self,
        input: LanguageModelInput,
        *,
        patch: float = 0.1,
        windows_per_axis: int = 4,
        by: AnswerClass = "stance",
        **kwargs: Any,
    ) -> PatchDecision:
        """Decide the class of the answer by covering windows; see `decide_with_windows`."""
        return await self._guarded.acertify(
            input, by, lambda certifier: certifier.decide(patch=patch, per_axis=windows_per_axis), **kwargs
        )

    def bind_tools(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Tools need a chat model: raise an error that names `SmoothGuardChatModel`."""
        raise ConfigurationError(_NEEDS_CHAT_MODEL.format("bind_tools", "chat.bind_tools(tools)"))

    def with_structured_output(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Structured output needs a chat model: raise an error that names `SmoothGuardChatModel`."""
        raise ConfigurationError(
            _NEEDS_CHAT_MODEL.format("with_structured_output", "chat.with_structured_output(schema)")
        )

    def __copy__(self) -> Self:
        """Return a copy that builds its guard again, since `model_copy(update=...)` changes the fields."""
        copied = super().__copy__()
        copied.__dict__.pop("_guarded", None)
        return copied

    @cached_property
    def _guarded(self) -> GuardedModel:
        traced = self.config.trace_samples is not False
        return GuardedModel(self.model, self.config, components=self.components, traced=traced)

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


_NEEDS_CHAT_MODEL = (
    "SmoothGuardRunnable has no {0}: use chat = SmoothGuardChatModel(model, config) and {1}; in an agent use it as the"
    " model, or add SmoothGuardMiddleware(config) to create_agent(middleware=[...])"
)


def _as_runnable(model: Runnable[Any, Any] | str) -> Runnable[Any, Any]:
    model = load_model(model) if isinstance(model, str) else model
    if not isinstance(model, Runnable):
        raise ConfigurationError(f"model: expected a chat model, a Runnable or a string, got {type(model).__name__}")
    return model
