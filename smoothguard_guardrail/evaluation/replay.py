"""Records answers to many perturbed copies once, and replays any number of voting rules on them.

Asking is the expensive part of every sweep and depends only on the perturbation. The vote is cheap and runs the guard's
flow: `replay` drives `Guard.vote` with the recorded answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage
from pydantic import Field

from smoothguard_guardrail.core.answer_vote import describe
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.effects import CallModel, Outcome, Request, drive
from smoothguard_guardrail.core.flow import Guard
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.errors import AbstainedError, ConfigurationError, QuorumError
from smoothguard_guardrail.evaluation.mappers import Mapper
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.shared import resolve_model, shared_embeddings
from smoothguard_guardrail.media import prepare
from smoothguard_guardrail.media.files import request_from_files
from smoothguard_guardrail.result import GuardResult, Medium
from smoothguard_guardrail.voting import answer_text

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.items import Item
    from smoothguard_guardrail.protocols import Clusterer, Embed, Embedder

CLEAN = -1
"""Index of the clean copy among `CopyAnswers.errors`."""


class CopyAnswers(Record):
    """A model's answers to perturbed copies of one item."""

    item_id: str
    answers: tuple[str | None, ...]
    """Text of every copy's answer, as voted on; None where the call failed."""
    clean: str | None = None
    """Text of the answer to the unperturbed item; None if it failed or was not requested."""
    errors: dict[int, str] = Field(default_factory=dict)
    """Type and message of every failure, by copy; -1 is the clean one."""


class Replayed(Record):
    """The result of a vote on recorded answers."""

    item_id: str
    text: str = ""
    """Empty where the guard failed."""
    verdict: Literal["passed", "abstained", "failed"]
    num_calls: int
    agreement: float | None = None
    num_clusters: int | None = None
    suspicion: float | None = None
    """Only with `include_clean`."""
    error: str | None = None
    """Type and message, where the guard failed or raised because of too little agreement."""


def ask_copies(
    model: BaseChatModel | str,
    config: SmoothGuardConfig,
    items: Sequence[Item],
    *,
    num_copies: int,
    seed: int,
    with_clean: bool = False,
    mapper: Mapper | None = None,
    on_done: Callable[[CopyAnswers], None] | None = None,
) -> list[CopyAnswers]:
    """Ask a model about copies of every item, perturbed like a guard with this configuration.

    An item's noise depends only on the seed and its id. Only the perturbation of the configuration is used.

    Args:
        model: A chat model, or its name for `load_model`, which worker processes load themselves.
        config: How to perturb.
        items: What to ask; each has at least one medium.
        num_copies: Perturbed copies of each; may be 0 with `with_clean`.
        seed: Of the noise.
        with_clean: Also ask about each unperturbed item, for `include_clean`.
        mapper: Where the work runs; None: in this thread.
        on_done: Called in this thread with every record as it arrives, in any order.

    Returns:
        One record per item, in order.

    Raises:
        ConfigurationError: `num_copies` is negative, or there is nothing to ask or perturb.
        InputError: An item's file cannot be read, or it has none.
        MediaError: A medium cannot be guarded.
    """
    if num_copies < 0 or not (num_copies or with_clean):
        raise ConfigurationError(f"num_copies must be at least 1 (0 with with_clean), got {num_copies}")
    ask = partial(_ask_item, model, config, num_copies, seed, with_clean)
    done = {}
    for index, record in enumerate(map(ask, items)) if mapper is None else mapper(ask, items):
        done[index] = record
        if on_done is not None:
            on_done(record)
    return [done[index] for index in range(len(items))]


def replay(
    config: SmoothGuardConfig,
    copies: Iterable[CopyAnswers],
    *,
    components: GuardComponents | None = None,
    first_copy: int = 0,
) -> list[Replayed]:
    """Return the result of a guard with this configuration on recorded answers.

    Sample i gets the answer of copy i; with `include_clean`, sample 0 gets the clean answer and sample i that of
    copy i - 1. The caller must match the perturbation.

    Args:
        config: How to vote.
        copies: Recorded answers.
        components: The vote's components; None: `cached_components(config)`.
        first_copy: The first copy to use: another one is another draw of the noise.

    Raises:
        ConfigurationError: A record has fewer answers than `num_samples`, or lacks a clean one.
        AdapterError: One of the components broke its protocol.
    """
    guard = Guard(config, components=cached_components(config) if components is None else components)
    num_noisy = config.num_samples - config.include_clean
    seen: dict[tuple[str | None, ...], Replayed] = {}
    results = []
    for record in copies:
        recorded = record.answers[first_copy : first_copy + num_noisy]
        if len(recorded) < num_noisy:
            raise ConfigurationError(f"{record.item_id}: {num_noisy} copies are needed from {first_copy} on")
        if config.include_clean:
            if record.clean is None and CLEAN not in record.errors:
                raise ConfigurationError(f"{record.item_id}: include_clean needs a recorded clean answer")
            recorded = (record.clean, *recorded)
        if recorded not in seen:
            seen[recorded] = _vote(guard, recorded)
        results.append(seen[recorded].model_copy(update={"item_id": record.item_id}))
    return results


class CachedClusterer:
    """A clusterer that clusters equal answers once; it must be deterministic, as the built-in ones are."""

    def __init__(self, clusterer: Clusterer) -> None:
        self._clusterer = clusterer
        self._labels: dict[tuple[str, ...], Any] = {}

    def __call__(self, texts: Sequence[str], embed: Embed) -> Any:
        """Return one label per text."""
        key = tuple(texts)
        if key not in self._labels:
            self._labels[key] = self._clusterer(texts, embed)
        return self._labels[key]


def cached_components(config: SmoothGuardConfig, *, embedder: Embedder | None = None) -> GuardComponents:
    """Return the configured components, which cache embeddings and clusters.

    Args:
        config: How to vote.
        embedder: Preferably one `CachedEmbeddings` shared by all replays; None: the process-wide one.
    """
    embedder = shared_embeddings() if embedder is None else embedder
    complete = GuardComponents(embedder=embedder).complete(config)
    return GuardComponents(embedder=embedder, clusterer=CachedClusterer(complete.clusterer))


def vote_on(
    guard: Guard, outcomes: Sequence[Outcome], *, media: tuple[Medium, ...] = (), seed: int | None = None
) -> GuardResult:
    """Return the result of a guard's vote on recorded outcomes: no model is asked.

    Args:
        guard: Votes.
        outcomes: The answer or the failure of every sample, in order.
        media: For the record.
        seed: Of the noise, for the record.

    Raises:
        ConfigurationError: The vote asks for more outcomes than were recorded.
        QuorumError: Too few samples answered.
        AbstainedError: The answers disagree and `on_abstain` is `raise`.
        AdapterError: One of the components broke its protocol.
    """

    def call(effect: CallModel) -> Sequence[Outcome]:
        end = effect.first_index + len(effect.requests)
        if end > len(outcomes):
            raise ConfigurationError(f"the vote asks for {end} answers, {len(outcomes)} were recorded")
        return outcomes[effect.first_index : end]

    return drive(guard.vote(_nothing, media=lambda: media, seed=seed), call)


def _vote(guard: Guard, recorded: Sequence[str | None]) -> Replayed:
    outcomes = [RuntimeError("recorded as failed") if text is None else AIMessage(text) for text in recorded]
    error = None
    try:
        result = vote_on(guard, outcomes)
    except QuorumError as failed:
        asked = failed.successes + len(failed.failures)
        return Replayed(item_id="", verdict="failed", num_calls=asked, error=describe(failed))
    except AbstainedError as raised:
        result, error = raised.result, describe(raised)
    return Replayed(
        item_id="",
        text="" if error else answer_text(result.answer),
        verdict="abstained" if result.verdict == "abstained" else "passed",
        num_calls=result.num_calls,
        agreement=result.agreement,
        num_clusters=len(result.clusters),
        suspicion=result.suspicion,
        error=error,
    )


def _nothing(first_index: int, count: int) -> list[Request]:
    """Return empty requests: the answers are recorded."""
    return [[] for _ in range(count)]


def _ask_item(
    model: BaseChatModel | str, config: SmoothGuardConfig, num_copies: int, seed: int, with_clean: bool, item: Item
) -> CopyAnswers:
    """Ask about one item; runs in a worker."""
    chat = resolve_model(model)
    config = config.override(include_clean=False)
    info = ModelInfo.find(chat)
    sizing = ModelInput(config=config, model_info=info)
    prepared = prepare([request_from_files(item.media, item.question)], config.media, sizing)
    if not prepared.media:
        raise ConfigurationError(f"{item.id}: there is nothing to perturb")
    seed = item_seed(seed, item.id)
    perturber = RequestPerturber(prepared, config=config, model_info=info, seed=seed)
    requests = [perturber.clean()] if with_clean else []
    requests += perturber.render(0, num_copies)
    outcomes = _outcomes(chat, requests, config)
    first = -1 if with_clean else 0
    texts = [None if isinstance(outcome, Exception) else answer_text(outcome) for outcome in outcomes]
    failed = [(index, outcome) for index, outcome in enumerate(outcomes, first) if isinstance(outcome, Exception)]
    return CopyAnswers(
        item_id=item.id,
        answers=tuple(texts[with_clean:]),
        clean=texts[0] if with_clean else None,
        errors={index: describe(error) for index, error in failed},
    )


def _outcomes(model: BaseChatModel, requests: list[Request], config: SmoothGuardConfig) -> list[Outcome]:
    """Ask like the guard: in one batch if the model supports it, otherwise with concurrent calls."""
    if hasattr(model, "generate_batch"):
        return list(model.generate_batch(requests))
    uncached = model.model_copy(update={"cache": False})
    inputs: Any = requests
    outcomes: Any = uncached.batch(inputs, {"max_concurrency": config.max_concurrency}, return_exceptions=True)
    return list(outcomes)


def item_seed(seed: int, item_id: str) -> int:
    """Return the seed of one item's noise, in [0, 2**63): determined by both, independent between items.

    Example:
        >>> item_seed(1, "a") == item_seed(1, "a"), item_seed(1, "a") == item_seed(1, "b")
        (True, False)
    """
    digest = hashlib.sha256(f"{seed}/{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
