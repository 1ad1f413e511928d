"""What the hosts share: a guarded model, called sync or async, and the record on its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from smoothguard_guardrail._langchain.events import areported, reported
from smoothguard_guardrail._langchain.sample_calls import SampleCaller
from smoothguard_guardrail._langchain.sample_runs import ParentRun, SampleRuns
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_classes import AnswerClass
from smoothguard_guardrail.core.certify import Certifier
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.effects import CallModel, Effects, adrive, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.result import GuardResult, PerturbedRequest

METADATA_KEY = "smoothguard"
T = TypeVar("T")


class GuardedModel:
    """A model behind a guard.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        config: The guard's configuration.
        components: Parts of the user's own.
        model_info: What the model reports about itself; read from the model by default.
        traced: Whether samples are child runs of the host's run.
    """

    def __init__(
        self,
        model: Runnable[Any, Any],
        config: SmoothGuardConfig,
        *,
        components: GuardComponents,
        model_info: ModelInfo | None = None,
        traced: bool = True,
    ) -> None:
        model_info = ModelInfo.find(model) if model_info is None else model_info
        self._guard = Guard(config, components=components, model_info=model_info)
        self._caller = SampleCaller(model, max_concurrency=config.max_concurrency)
        self._traced = traced

    def run(
        self,
        input: LanguageModelInput,
        parent: ParentRun | None,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> GuardResult:
        """Answer one request.

        Args:
            input: The request: text, a prompt value or messages.
            parent: The host's run manager, or a callback manager whose parent run is the host's.
            config: The configuration that samples inherit.
            **kwargs: Passed on to the model.

        Raises:
            InputError: If the input is not text, a prompt value or messages.
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If one of the user's components broke its protocol.
        """
        runs = SampleRuns(parent, config, traced=self._traced)
        return reported(
            parent,
            lambda: drive(
                self._guard.flow(as_messages(input)), lambda effect: self._caller.call(effect, runs, **kwargs)
            ),
            self._guard.settings,
        )

    async def arun(
        self,
        input: LanguageModelInput,
        parent: ParentRun | None,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> GuardResult:
        """Answer one request; see `run`."""
        runs = SampleRuns(parent, config, traced=self._traced)
        return await areported(
            parent,
            lambda: adrive(
                self._guard.flow(as_messages(input)), lambda effect: self._caller.acall(effect, runs, **kwargs)
            ),
            self._guard.settings,
        )

    def perturb(self, input: LanguageModelInput) -> PerturbedRequest:
        """Make one noisy copy of a request; the model is not asked."""
        return drive(self._guard.perturb(as_messages(input)), _no_call)

    async def aperturb(self, input: LanguageModelInput) -> PerturbedRequest:
        """Make one noisy copy of a request; see `perturb`."""
        return await adrive(self._guard.perturb(as_messages(input)), _no_call)

    def certify(
        self, input: LanguageModelInput, by: AnswerClass, steps: Callable[[Certifier], Effects[T]], **kwargs: Any
    ) -> T:
        """Take the steps of a certificate; the calls are not traced."""
        runs = SampleRuns(None, None, traced=False)
        flow = steps(self._guard.certifier(as_messages(input), by))
        return drive(flow, lambda effect: self._caller.call(effect, runs, **kwargs))

    async def acertify(
        self, input: LanguageModelInput, by: AnswerClass, steps: Callable[[Certifier], Effects[T]], **kwargs: Any
    ) -> T:
        """Take the steps of a certificate; see `certify`."""
        runs = SampleRuns(None, None, traced=False)
        flow = steps(self._guard.certifier(as_messages(input), by))
        return await adrive(flow, lambda effect: self._caller.acall(effect, runs, **kwargs))


def _no_call(effect: CallModel) -> NoReturn:
    raise AssertionError("a copy is made without the model")


def with_record(result: GuardResult) -> AIMessage:
    """Return the answer with its record in the response metadata and the usage of all samples."""
    answer = result.answer
    metadata = {**answer.response_metadata, METADATA_KEY: result.to_metadata()}
    return answer.model_copy(update={"response_metadata": metadata, "usage_metadata": result.usage})


def as_messages(input: LanguageModelInput) -> list[BaseMessage]:
    """Return a chat model's input as messages.

    Raises:
        InputError: If it is not text, a prompt value or a list of messages.
    """
    if isinstance(input, PromptValue):
        return input.to_messages()
    if not isinstance(input, Sequence):  # a dict would be read as the list of its keys
        raise InputError(f"expected text, a prompt value or a list of messages, got {type(input).__name__}")
    try:
        return convert_to_messages([("human", input)] if isinstance(input, str) else input)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"expected text, a prompt value or a list of messages: {error}") from error
