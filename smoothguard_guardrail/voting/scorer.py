"""How benign an answer is: `scorer=`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting.clusterer import unit_rows
from smoothguard_guardrail.voting.embedder import embed_answers
from smoothguard_guardrail.voting.prototypes import BENIGN_PROTOTYPES, HARMFUL_PROTOTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embedder, Scorer


class PrototypeScorer:
    """Scores answers by similarity: to refusals and harmless answers, or to compliance with harm.

    The score is the highest cosine to a benign prototype minus the highest to a harmful one, stretched by tanh to
    [-1, 1]. It ranks close clusters and is not a harm filter; a model with its own secrets needs its own prototypes.
    Sentiment is not a substitute: refusals read as more negative than compliance.

    Args:
        embedder: Any LangChain `Embeddings`; ideally the one that embeds the answers, so each answer is embedded once.
        benign: Texts like those that should win.
        harmful: Texts like those that should lose.
        sharpness: Slope of tanh at 0, per unit of cosine. The default puts most answers close to 1 or -1, so the
            vote weighs which side an answer is on, not how far.

    Raises:
        ConfigurationError: If there are no benign or no harmful prototypes, or `sharpness` is not positive.

    Example:
        >>> from smoothguard_guardrail.voting import default_embedder
        >>> refusal, compliance = PrototypeScorer(default_embedder())(["I can't share it.", "The code is 1234."])
        >>> refusal > compliance
        True
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        benign: Sequence[str] = BENIGN_PROTOTYPES,
        harmful: Sequence[str] = HARMFUL_PROTOTYPES,
        sharpness: float = 24.0,
    ) -> None:
        if not benign or not harmful or isinstance(benign, str) or isinstance(harmful, str):
            raise ConfigurationError(
                "benign and harmful must each be a list of at least one text, got a string or no text"
            )
        if not (math.isfinite(sharpness) and sharpness > 0):
            raise ConfigurationError(f"sharpness must be positive and finite, got {sharpness}")
        self.embedder = embedder
        self._benign, self._harmful, self._sharpness = tuple(benign), tuple(harmful), sharpness
        self._prototypes: NDArray[np.float64] | None = None
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return one score per text, in [-1, 1].

        Raises:
            AdapterError: If the embedder breaks its protocol.
        """
        return self.score(embed_answers(self.embedder, texts)) if len(texts) else []

    def score(self, embeddings: NDArray[np.float64]) -> list[float]:
        """Return one score per row of (num_answers, dimensions); the rows must come from the same embedder.

        If all rows are zero (all answers are empty), every score is 0.

        Raises:
            AdapterError: If the rows and the prototypes' vectors differ in length.
        """
        if not embeddings.any():
            return [0.0] * len(embeddings)
        prototypes = self._embedded_prototypes()
        if embeddings.shape[1] != prototypes.shape[1]:
            raise AdapterError(
                f"the answers' embeddings must have the prototypes' {prototypes.shape[1]} dimensions, they have "
                f"{embeddings.shape[1]}: use the same embedder for both"
            )
        cosines = unit_rows(embeddings) @ prototypes.T
        num_benign = len(self._benign)
        margin = cosines[:, :num_benign].max(axis=1) - cosines[:, num_benign:].max(axis=1)
        scores: list[float] = np.tanh(self._sharpness * margin).tolist()
        return scores

    def _embedded_prototypes(self) -> NDArray[np.float64]:
        with self._lock:
            if self._prototypes is None:
                self._prototypes = unit_rows(embed_answers(self.embedder, (*self._benign, *self._harmful)))
            return self._prototypes


def benign_scores(scorer: Scorer, texts: Sequence[str], embeddings: NDArray[np.float64] | None = None) -> list[float]:
    """Score texts and check what the scorer returns: one score per text.

    Args:
        scorer: Scores texts.
        texts: Texts from `answer_text`.
        embeddings: The answers' vectors, which a `PrototypeScorer` reuses; pass them only if they come from the
            scorer's own embedder.

    Raises:
        AdapterError: If the scorer fails or does not return one number in [-1, 1] per text.

    Example:
        >>> benign_scores(lambda texts: [0.5] * len(texts), ["Yes.", "No."])
        [0.5, 0.5]
    """
    if isinstance(scorer, PrototypeScorer) and embeddings is not None:
        return scorer.score(embeddings)
    try:
        scores = [float(score) for score in scorer(texts)]
    except (TypeError, ValueError) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"the scorer must return numbers, it failed: {error}") from error
    if len(scores) != len(texts):
        raise AdapterError(f"the scorer must return one score per text, got {len(scores)} for {len(texts)} texts")
    if not all(-1 <= score <= 1 for score in scores):
        raise AdapterError(f"the scorer must return scores in [-1, 1], got {scores}")
    return scores


def from_sentiment_pipeline(
    pipeline: Callable[[list[str]], Iterable[Mapping[str, Any]]],
    *,
    benign_labels: Sequence[str] = ("POSITIVE",),
) -> Scorer:
    """Return a scorer made from a `transformers` text-classification pipeline (toxicity, moderation, sentiment).

    Args:
        pipeline: Called with texts; returns one mapping with `label` and `score` (a probability) per text.
        benign_labels: Labels that make a score positive, in upper or lower case; all others make it negative.

    Example:
        >>> scorer = from_sentiment_pipeline(lambda texts: [{"label": "NEGATIVE", "score": 0.9} for _ in texts])
        >>> scorer(["I can't."])
        [-0.9]
    """
    wanted = {label.casefold() for label in benign_labels}

    def score(texts: Sequence[str]) -> list[float]:
        results = pipeline(list(texts))
        return [float(result["score"]) * (1 if str(result["label"]).casefold() in wanted else -1) for result in results]

    return score
