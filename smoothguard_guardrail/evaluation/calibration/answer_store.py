"""Answers to perturbed copies, stored on disk so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.replay import CopyAnswers, ask_copies, item_seed

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.identity import ModelIdentity
    from smoothguard_guardrail.evaluation.items import Item
    from smoothguard_guardrail.evaluation.mappers import Mapper


class AnswerStore:
    """Asks a model about perturbed copies and stores every record as soon as it arrives.

    Records with failed calls are not stored: the next run asks again.

    Args:
        model: A chat model, or its name, for mappers whose workers are other processes.
        identity: Of the model.
        path: A JSON-lines file; created if missing.
        seed: Of the noise.
        mapper: Where the work runs; None: in this thread.
    """

    def __init__(
        self,
        model: BaseChatModel | str,
        *,
        identity: ModelIdentity,
        path: Path,
        seed: int,
        mapper: Mapper | None = None,
    ) -> None:
        self.model = model
        self._identity = identity
        self._path = path
        self._seed = seed
        self.mapper = mapper
        self._stored = JsonLinesStore(path)
        self.num_failed = 0
        """Calls that failed so far."""

    def copies(self, items: Sequence[Item], config: SmoothGuardConfig, num_copies: int) -> list[CopyAnswers]:
        """Return the answers to at least `num_copies` perturbed copies of every item, in order.

        With `include_clean` they come with the answer to the unperturbed item.
        """
        records = self._answers(items, config, num_copies=num_copies)
        if not config.include_clean:
            return records
        clean = self._answers(items, config, num_copies=0)
        return [
            record.model_copy(update={"clean": found.clean, "errors": record.errors | found.errors})
            for record, found in zip(records, clean, strict=True)
        ]

    def clean(self, items: Sequence[Item], config: SmoothGuardConfig) -> dict[str, str | None]:
        """Return the model's answer to every unperturbed item, by id; None where the call failed."""
        return {record.item_id: record.clean for record in self._answers(items, config, num_copies=0)}

    def _answers(self, items: Sequence[Item], config: SmoothGuardConfig, *, num_copies: int) -> list[CopyAnswers]:
        keys = {item.id: self._key(item, config if num_copies else None) for item in items}
        stored = {name: self._stored.get(key) for name, key in keys.items()}
        found = {name: CopyAnswers.model_validate(value) for name, value in stored.items() if value is not None}
        found = {name: record for name, record in found.items() if len(record.answers) >= num_copies}

        def store(record: CopyAnswers) -> None:
            found[record.item_id] = record
            self.num_failed += len(record.errors)
            if not record.errors:
                self._stored.put(keys[record.item_id], record.model_dump(mode="json"))

        ask_copies(
            self.model,
            config,
            [item for item in items if item.id not in found],
            num_copies=num_copies,
            seed=self._seed,
            with_clean=num_copies == 0,
            mapper=self.mapper,
            on_done=store,
        )
        return [found[item.id].model_copy(update={"item_id": item.id}) for item in items]

    def _key(self, item: Item, config: SmoothGuardConfig | None) -> str:
        perturbation = None
        if config is not None:
            perturbation = config.model_dump(mode="json", include={"sigma", "noise_space", "image", "audio"})
        return content_key(
            model=self._identity.key,
            media=[file_sha256(path) for path in item.media],
            question=item.question,
            perturbation=perturbation,
            seed=None if config is None else item_seed(self._seed, item.id),
        )
