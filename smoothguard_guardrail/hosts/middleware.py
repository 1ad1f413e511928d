"""`SmoothGuardMiddleware`: the guard in a LangChain agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ContextT,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    OmitFromInput,
    ResponseT,
)
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config
from langgraph.types import Command

from smoothguard_guardrail._langchain.sample_calls import as_answer, sample_model
from smoothguard_guardrail._langchain.sample_runs import ParentRun
from smoothguard_guardrail.config import SmoothGuardConfig, require_config
from smoothguard_guardrail.core.components import GuardComponents, require_components
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.hosts._guarded_model import METADATA_KEY, GuardedModel, with_record
from smoothguard_guardrail.result import GuardResult


class SmoothGuardState(AgentState[ResponseT]):
    """What the middleware adds to an agent's state."""

    smoothguard: NotRequired[Annotated[dict[str, Any], OmitFromInput]]
    """Record of the last model call, as in the answer's `response_metadata`; callers cannot set it."""


class SmoothGuardMiddleware(AgentMiddleware[SmoothGuardState[ResponseT], ContextT, ResponseT]):
    """Guards every model call of an agent: `create_agent(..., middleware=[..., SmoothGuardMiddleware()])`.

    It looks for media in the system message and the whole history, including images that tools returned. Samples see
    noisy copies; the state keeps the originals. The elected sample's whole response is returned, including a structured
    response; its record is in the state under `smoothguard` and in the message's `response_metadata`.

    Put it last in the list, innermost: middleware inside it runs once per sample, and so do its updates of the state.
    No token of a sample is streamed; the answer comes whole, after the vote.

    Args:
        config: The guard's configuration. With `vote.on_abstain="refuse"`, a refusal calls no tool and so ends the
            agent's turn.
        components: Parts of your own instead of the configured ones.

    Raises:
        ConfigurationError: If an argument has the wrong type.

    Example:
        >>> from langchain.agents import create_agent
        >>> from smoothguard_guardrail import SmoothGuardMiddleware
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> agent = create_agent(ScriptedChatModel(script=["Hello."]), middleware=[SmoothGuardMiddleware()])
        >>> state = agent.invoke({"messages": [("human", "Hi!")]})
        >>> state["messages"][-1].content, state["smoothguard"]["verdict"]
        ('Hello.', 'skipped')
    """

    state_schema = SmoothGuardState  # type: ignore[assignment]

    def __init__(self, config: SmoothGuardConfig | None = None, *, components: GuardComponents | None = None) -> None:
        super().__init__()
        self._config = require_config(config)
        self._components = require_components(components)

    @property
    def config(self) -> SmoothGuardConfig:
        """The guard's configuration."""
        return self._config

    @property
    def components(self) -> GuardComponents:
        """Parts of the user's own."""
        return self._components

    def wrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], ModelResponse[ResponseT]],
    ) -> ExtendedModelResponse[ResponseT]:
        """Elect one response of the model.

        Raises:
            MediaError: If a medium cannot be guarded and `on_unsupported` is `error`.
            QuorumError: If too few samples answered.
            AbstainedError: If the answers disagree and `on_abstain` is `raise`.
            AdapterError: If one of your components broke its protocol.
        """
        samples = _Samples(request)

        def ask(messages: list[BaseMessage]) -> AIMessage | None:
            return samples.keep(handler(samples.request(messages)))

        guarded = self._guarded(RunnableLambda(ask, name=_SAMPLE), request)
        return samples.elected(guarded.run(samples.messages, *_current_run()))

    async def awrap_model_call(
        self,
        request: ModelRequest[ContextT],
        handler: Callable[[ModelRequest[ContextT]], Awaitable[ModelResponse[ResponseT]]],
    ) -> ExtendedModelResponse[ResponseT]:
        """Elect one response of the model; see `wrap_model_call`."""
        samples = _Samples(request)

        async def ask(messages: list[BaseMessage]) -> AIMessage | None:
            return samples.keep(await handler(samples.request(messages)))

        guarded = self._guarded(RunnableLambda(ask, name=_SAMPLE), request)
        return samples.elected(await guarded.arun(samples.messages, *_current_run()))

    def _guarded(self, model: Runnable[Any, Any], request: ModelRequest[ContextT]) -> GuardedModel:
        return GuardedModel(
            model,
            self._config,
            components=self._components,
            # Encoded, not as tensors: on their way to the model the messages pass other middleware and tracers.
            model_info=dataclasses.replace(ModelInfo.find(request.model), accepts_tensors=False),
            traced=self._config.trace_samples is not False,
        )


_SAMPLE = "smoothguard_sample"


class _Samples:
    """The samples of one model call: their requests, and the responses that hold their answers."""

    def __init__(self, request: ModelRequest[Any]) -> None:
        model: Any = sample_model(request.model)
        self._request = request.override(model=model)
        self._responses: list[tuple[AIMessage, BaseMessage, ModelResponse[Any]]] = []

    @property
    def messages(self) -> list[AnyMessage]:
        """Everything that the model sees."""
        system = self._request.system_message
        return [*([system] if system else []), *self._request.messages]

    def request(self, messages: list[Any]) -> ModelRequest[Any]:
        """Return the request with other messages; the state is unchanged."""
        if not self._request.system_message:
            return self._request.override(messages=messages)
        system, *rest = messages
        return self._request.override(system_message=system, messages=rest)

    def keep(self, response: ModelResponse[Any]) -> AIMessage | None:
        """Remember a response and return its answer, which is voted on."""
        message = next((message for message in response.result if isinstance(message, AIMessage)), None)
        if message is None:
            return None
        answer = as_answer(message)
        self._responses.append((answer, message, response))
        return answer

    def elected(self, result: GuardResult) -> ExtendedModelResponse[Any]:
        """Return the response of the elected sample, or a refusal, and the record."""
        answer = with_record(result)
        response: ModelResponse[Any] = ModelResponse(result=[answer])
        for sample, message, whole in self._responses:
            if sample is result.answer:
                messages = [answer if other is message else other for other in whole.result]
                response = dataclasses.replace(whole, result=messages)
        record: Command[Any] = Command(update={METADATA_KEY: answer.response_metadata[METADATA_KEY]})
        return ExtendedModelResponse(model_response=response, command=record)


def _current_run() -> tuple[ParentRun | None, RunnableConfig]:
    """Return the current run, as a manager of its children, and its configuration."""
    config = ensure_config()
    callbacks = config.get("callbacks")
    return (None if isinstance(callbacks, list) else callbacks), config
