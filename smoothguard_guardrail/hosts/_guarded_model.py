"""What the LangChain hosts share: a model behind a guard, driven sync and async, and the record on its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from smoothguard_guardrail._langchain.events import areported, reported
from smoothguard_guardrail._langchain.sample_calls import SampleCaller, unwrap
from smoothguard_guardrail._langchain.sample_runs import ParentRun, SampleRuns
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Judges
from smoothguard_guardrail.core.flow import Guard, adrive, drive
from smoothguard_guardrail.core.request_perturber import ModelFacts
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.protocols import Perturber
from smoothguard_guardrail.result import GuardResult

METADATA_KEY = "smoothguard"


class GuardedModel:
    """A model behind a guard.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        config: Every knob.
        judges: The parts that turn answers into a vote.
        perturber: Takes the place of the configured perturbation.
        facts: What the model tells about itself; read off the model by default.
        traced: Whether samples are child runs of the host's run.
    """

    def __init__(
        self,
        model: Runnable[Any, Any],
        config: SmoothGuardConfig,
        *,
        judges: Judges,
        perturber: Perturber | None = None,
        facts: ModelFacts | None = None,
        traced: bool = True,
    ) -> None:
        facts = facts or ModelFacts.of(unwrap(model).model)
        self._guard = Guard(config, judges=judges, facts=facts, perturber=perturber)
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
            InputError: If the input is nothing that a chat model takes.
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If a user's part broke its protocol.
        """
        runs = SampleRuns(parent, config, traced=self._traced)
        return reported(
            parent,
            lambda: drive(
                self._guard.flow(as_messages(input)), lambda effect: self._caller.call(effect, runs, **kwargs)
            ),
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
        )


def with_record(result: GuardResult) -> AIMessage:
    """Return the answer with its record in the response metadata and the usage of all samples."""
    answer = result.answer
    metadata = {**answer.response_metadata, METADATA_KEY: result.to_metadata()}
    return answer.model_copy(update={"response_metadata": metadata, "usage_metadata": result.usage})


def as_messages(input: LanguageModelInput) -> list[BaseMessage]:
    """Return what a chat model takes as messages.

    Raises:
        InputError: If it is nothing that a chat model takes.
    """
    if isinstance(input, PromptValue):
        return input.to_messages()
    if not isinstance(input, Sequence):  # a dict would pass for a list of texts, its keys
        raise InputError(f"the guard takes text, a prompt value or a list of messages, not {type(input).__name__}")
    try:
        return convert_to_messages([("human", input)] if isinstance(input, str) else input)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"the guard takes text, a prompt value or a list of messages, not {type(input).__name__}: {error}"
        ) from error


def named_model(name: str) -> BaseChatModel:
    """Return the chat model that a string such as `"openai:gpt-4o"` names.

    Raises:
        ConfigurationError: If it names none.
        ImportError: If the package of its provider is missing.
    """
    from langchain.chat_models import init_chat_model

    try:
        return init_chat_model(name)
    except ValueError as error:  # no such provider, or none that the name tells
        raise ConfigurationError(f"no chat model can be made of {name!r}: {error}") from error
