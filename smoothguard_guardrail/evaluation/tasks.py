"""Asks a model about one item, bare or through the guard; the unit of work of mappers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.errors import (
    AbstainedError,
    AdapterError,
    ConfigurationError,
    MissingDependencyError,
    QuorumError,
)
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.shared import resolve_model, shared_embeddings
from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.media.files import request_from_files

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.result import GuardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One item of one arm.

    Attributes:
        config: The guard's, with the item's seed; None: the bare model.
    """

    item: Item
    config: SmoothGuardConfig | None = None
    components: GuardComponents | None = None


def answer(model: str | BaseChatModel, task: Task) -> Answer:
    """Ask a model one item's question.

    The bare model is called like the guard's samples, with the same decoding. Failures are recorded in the answer. If
    the guard raises on abstention, the answer is its refusal text.

    Args:
        model: A name for `load_model`, which is loaded once per process, or a chat model.
        task: The item and the guard.

    Raises:
        ConfigurationError: The model or the guard cannot be set up.
        MissingDependencyError: A package is missing.
        AdapterError: One of the components broke its protocol.
    """
    chat = resolve_model(model)
    try:
        if task.config is None:
            reply = chat.invoke([request_from_files(task.item.media, task.item.question)])
            return Answer(item_id=task.item.id, text=str(reply.text))
        return _guarded(chat, task, task.config)
    except (ConfigurationError, MissingDependencyError, AdapterError):
        raise
    except QuorumError as error:
        return _failed(task, error, num_calls=error.successes + len(error.failures))
    except Exception as error:
        return _failed(task, error, num_calls=1)


def _guarded(chat: BaseChatModel, task: Task, config: SmoothGuardConfig) -> Answer:
    guard = SmoothGuardRunnable(chat, config=config, components=_with_shared_embedder(task.components))
    try:
        result = guard.guard([request_from_files(task.item.media, task.item.question)])
    except AbstainedError as error:
        return _answer(task, error.result, config, text=config.vote.refusal_text)
    return _answer(task, result, config, text=str(result.answer.text))


def _answer(task: Task, result: GuardResult, config: SmoothGuardConfig, *, text: str) -> Answer:
    record = result.to_metadata() | {"seed": config.seed}
    return Answer(item_id=task.item.id, text=text, num_calls=result.num_calls, record=record)


def _failed(task: Task, error: Exception, *, num_calls: int) -> Answer:
    message = " ".join(str(error).split())
    return Answer(item_id=task.item.id, error=f"{type(error).__name__}: {message}", num_calls=num_calls)


def _with_shared_embedder(components: GuardComponents | None) -> GuardComponents:
    components = GuardComponents() if components is None else components
    return components if components.embedder is not None else components.override(embedder=shared_embeddings())
