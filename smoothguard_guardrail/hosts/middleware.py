"""`SmoothGuardMiddleware`: the guard in a LangChain agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, NotRequired

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
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Judges
from smoothguard_guardrail.core.request_perturber import ModelFacts
from smoothguard_guardrail.hosts._guarded_model import METADATA_KEY, GuardedModel, with_record
from smoothguard_guardrail.protocols import BenignScorer, Clusterer, Embedder, Perturber, Voter
from smoothguard_guardrail.result import GuardResult


class SmoothGuardState(AgentState[ResponseT]):
    """What the middleware adds to an agent's state."""

    smoothguard: NotRequired[Annotated[dict[str, Any], OmitFromInput]]
    """Record of the last model call, as in the answer's `response_metadata`; no part of the agent's input."""


class SmoothGuardMiddleware(AgentMiddleware[SmoothGuardState[ResponseT], ContextT, ResponseT]):
    """Guards every model call of an agent: `create_agent(..., middleware=[..., SmoothGuardMiddleware()])`.

    Media are looked for in the system message and the whole history, pictures that tools returned included. Samples
    see noisy copies; the state keeps the originals. The elected sample's whole response is returned, structured
    response included, its record in the state under `smoothguard` and in the message's `response_metadata`.

    Put it last in the list, innermost: what other middleware does inside of it happens once per sample, their
    updates of the state included. No token of a sample is streamed; the answer comes whole, after the vote.

    Args:
        config: Every knob.
        on_abstain: Takes the place of `config.on_abstain`. A refusal calls no tool, so it ends the agent's turn.
        embedder: Embeds the answers: any LangChain `Embeddings`. Default: the packaged all-MiniLM-L6-v2.
        clusterer: Groups embedded answers; takes the place of `config.clusterer`.
        benign_scorer: Scores how benign answers are, in [-1, 1]. Default: distance to prototypes.
        perturber: Perturbs media; takes the place of noise, low-pass, shift and resize.
        voter: Elects a cluster; takes the place of the benign-weighted vote.

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

    def __init__(
        self,
        config: SmoothGuardConfig | None = None,
        *,
        on_abstain: Literal["answer", "refuse", "raise"] | None = None,
        embedder: Embedder | None = None,
        clusterer: Clusterer | None = None,
        benign_scorer: BenignScorer | None = None,
        perturber: Perturber | None = None,
        voter: Voter | None = None,
    ) -> None:
        super().__init__()
        config = config or SmoothGuardConfig()
        self.config = config if on_abstain is None else config.override(on_abstain=on_abstain)
        self._judges = Judges(
            self.config, embedder=embedder, clusterer=clusterer, benign_scorer=benign_scorer, voter=voter
        )
        self._perturber = perturber

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
            AdapterError: If a user's part broke its protocol.
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
            self.config,
            judges=self._judges,
            perturber=self._perturber,
            # Encoded, not as tensors: on their way to the model the messages pass other middleware and tracers.
            facts=dataclasses.replace(ModelFacts.of(request.model), accepts_tensors=False),
            traced=self.config.trace_samples is not False,
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
        """Everything that the model is shown."""
        system = self._request.system_message
        return [*([system] if system else []), *self._request.messages]

    def request(self, messages: list[Any]) -> ModelRequest[Any]:
        """Return the request with other messages; the state stays as it is."""
        if not self._request.system_message:
            return self._request.override(messages=messages)
        system, *rest = messages
        return self._request.override(system_message=system, messages=rest)

    def keep(self, response: ModelResponse[Any]) -> AIMessage | None:
        """Remember a response, and return the answer that is voted on."""
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
    """Return the run that this code is in, as a manager of its children, and its configuration."""
    config = ensure_config()
    callbacks = config.get("callbacks")
    return (None if isinstance(callbacks, list) else callbacks), config
