"""Which answers mean the same, by a model for natural language inference (NLI): each must entail the other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.quiet import without_bars_for_local
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_TOKENS = 512
# A fast tokenizer keeps the padding and truncation of its last call, so it serves one thread at a time.
_TOKENIZING = threading.Lock()


class BidirectionalEntailment:
    """Says that two texts mean the same where each entails the other.

    The probability is that of the less likely direction. Any sequence classification model of `transformers` whose
    labels name entailment will do; its label order is read from `config.id2label`. Nothing is cut off: a text that
    is too long is split, and each of its pieces must follow from some piece of the other text (SummaC).

    Args:
        model: The classifier, on the device where it shall run.
        tokenizer: Its fast tokenizer.
        batch_size: Pairs in one forward pass.

    Raises:
        ConfigurationError: If no label, or more than one, names entailment, or the tokenizer is not a fast one.

    Example:
        `EquivalenceClusterer(BidirectionalEntailment.load("models/nli"))`; for a `transformers` pipeline,
        `BidirectionalEntailment(pipeline.model, pipeline.tokenizer)`.

    Source: Kuhn et al. 2023, "Semantic uncertainty" (arXiv 2302.09664), section 3.2; pieces: Laban et al. 2022,
        "SummaC" (arXiv 2111.09525), section 4.1.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 32) -> None:
        self._entailment = entailment_index(model.config.id2label or {})
        if not tokenizer.is_fast:
            raise ConfigurationError(
                f"expected a fast tokenizer, got {type(tokenizer).__name__}: load it with AutoTokenizer"
            )
        model.train(False)
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size
        positions = getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS
        self._max_tokens = min(tokenizer.model_max_length, positions, MAX_TOKENS)

    @classmethod
    def load(
        cls, path_or_id: str, *, revision: str | None = None, device: str = "cpu", batch_size: int = 32
    ) -> BidirectionalEntailment:
        """Load a model and its tokenizer.

        Args:
            path_or_id: A folder or a hub id.
            revision: Branch, tag or commit on the hub; name a commit, so that the model can't change.
            device: A torch device.
            batch_size: Pairs in one forward pass.

        Raises:
            ConfigurationError: If it cannot be loaded, or no label, or more than one, names entailment.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            with without_bars_for_local(path_or_id):
                tokenizer = AutoTokenizer.from_pretrained(path_or_id, revision=revision)
                model = AutoModelForSequenceClassification.from_pretrained(path_or_id, revision=revision).to(device)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"the entailment model {path_or_id!r} cannot be loaded ({type(error).__name__}: {error})"
            ) from error
        return cls(model, tokenizer, batch_size=batch_size)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the probability that the texts of each pair mean the same."""
        pieces = {text: self._pieces(text) for text in dict.fromkeys(itertools.chain(*pairs))}
        asked = dict.fromkeys(
            both
            for first, second in pairs
            for premise, hypothesis in itertools.product(pieces[first], pieces[second])
            for both in ((premise, hypothesis), (hypothesis, premise))
        )
        entails = dict(zip(asked, self._entailment_probabilities(list(asked)), strict=True))

        def follows(premises: Sequence[str], hypotheses: Sequence[str]) -> float:
            return min(max(entails[premise, hypothesis] for premise in premises) for hypothesis in hypotheses)

        return [
            min(follows(pieces[first], pieces[second]), follows(pieces[second], pieces[first]))
            for first, second in pairs
        ]

    def _pieces(self, text: str) -> list[str]:
        """Return a text in pieces of which two fit into the model."""
        room = (self._max_tokens - self._tokenizer.num_special_tokens_to_add(pair=True)) // 2
        # A word that is split may need more tokens on its own.
        with _TOKENIZING:
            encoded = self._tokenizer(
                text,
                add_special_tokens=False,
                truncation=True,
                max_length=room - min(8, room // 4),
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
        ends = [offsets[-1][1] for offsets in encoded["offset_mapping"] if offsets]
        return [text[start:end] for start, end in itertools.pairwise([0, *ends[:-1], len(text)])]

    def _entailment_probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        import torch

        found: list[float] = []
        for start in range(0, len(pairs), self._batch_size):
            premises, hypotheses = (list(texts) for texts in zip(*pairs[start : start + self._batch_size], strict=True))
            with _TOKENIZING:
                encoded = self._tokenizer(
                    premises,
                    hypotheses,
                    padding=True,
                    truncation=True,
                    max_length=self._max_tokens,
                    return_tensors="pt",
                )
            with torch.inference_mode():
                logits = self._model(**encoded.to(self._model.device)).logits
            found += logits.float().softmax(dim=-1)[:, self._entailment].tolist()
        return found


def entailment_index(labels: Mapping[Any, Any]) -> int:
    """Return which output of a model is the one for entailment.

    Args:
        labels: `config.id2label` of the model.

    Raises:
        ConfigurationError: If no label, or more than one, starts with `entail`.

    Example:
        >>> entailment_index({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"})
        2
    """
    found = [index for index, label in labels.items() if str(label).casefold().startswith("entail")]
    if len(found) != 1:
        raise ConfigurationError(
            f"an entailment model must have one label that starts with 'entail', got"
            f" {sorted(map(str, labels.values()))}; if one of these means it, name it so in model.config.id2label"
        )
    return int(found[0])
