"""How benign an answer is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.voting.clustering import unit_rows
from smoothguard_guardrail.voting.embedding import embed_answers
from smoothguard_guardrail.voting.prototypes import BENIGN_PROTOTYPES, HARMFUL_PROTOTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embedder, Scorer


class PrototypeScorer:
    """Scores answers by what they resemble: refusals and harmless answers, or compliance with harm.

    The score is the greatest cosine to a benign prototype minus the greatest to a harmful one, stretched by tanh to
    use [-1, 1]. It ranks close clusters; it is no filter: its scale says nothing about harm in general, and a
    model with secrets of its own deserves prototypes of its own. Sentiment is no substitute: refusals read as more
    negative than compliance does.

    Args:
        embedder: Any LangChain `Embeddings`, best the one that embeds the answers.
        benign: Texts like those that should win.
        harmful: Texts like those that should lose.
        sharpness: Slope of the stretch at 0, per unit of cosine. The default takes most answers close to 1 or -1, so
            that the vote weighs on which side an answer is rather than how far.

    Raises:
        ConfigurationError: If there are no prototypes of one kind, or the sharpness is not positive.

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
            raise ConfigurationError("give at least one benign and one harmful prototype, each a list of texts")
        if not (math.isfinite(sharpness) and sharpness > 0):
            raise ConfigurationError(f"sharpness must be positive, not {sharpness}")
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
        """Return one score per row of (num_answers, dimensions), embedded by the same embedder.

        A row of zeros, as of an empty answer, scores 0.

        Raises:
            AdapterError: If the rows have another length than the embedder's vectors.
        """
        if not embeddings.any():
            return [0.0] * len(embeddings)
        prototypes = self._embedded()
        if embeddings.shape[1] != prototypes.shape[1]:
            raise AdapterError(f"embeddings have {embeddings.shape[1]} dimensions, prototypes {prototypes.shape[1]}")
        cosines = unit_rows(embeddings) @ prototypes.T
        border = len(self._benign)
        margin = cosines[:, :border].max(axis=1) - cosines[:, border:].max(axis=1)
        scores: list[float] = np.tanh(self._sharpness * margin).tolist()
        return scores

    def _embedded(self) -> NDArray[np.float64]:
        with self._lock:
            if self._prototypes is None:
                self._prototypes = unit_rows(embed_answers(self.embedder, (*self._benign, *self._harmful)))
            return self._prototypes


def score_answers(scorer: Scorer, texts: Sequence[str], embeddings: NDArray[np.float64] | None = None) -> list[float]:
    """Return one checked score per text.

    Args:
        scorer: Scores texts.
        texts: Texts from `answer_text`.
        embeddings: The answers' vectors, which a `PrototypeScorer` reuses; give them only when they come from the
            scorer's own embedder.

    Raises:
        AdapterError: If the scorer returns anything but one number in [-1, 1] per text.

    Example:
        >>> score_answers(lambda texts: [0.5] * len(texts), ["Yes.", "No."])
        [0.5, 0.5]
    """
    if isinstance(scorer, PrototypeScorer) and embeddings is not None:
        return scorer.score(embeddings)
    try:
        scores = [float(score) for score in scorer(texts)]
    except (TypeError, ValueError) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"the benign scorer failed or returned no numbers: {error}") from error
    if len(scores) != len(texts):
        raise AdapterError(f"the benign scorer returned {len(scores)} scores for {len(texts)} texts")
    if not all(-1 <= score <= 1 for score in scores):
        raise AdapterError(f"the benign scorer returned scores outside [-1, 1]: {scores}")
    return scores


def from_sentiment_pipeline(
    pipeline: Callable[[list[str]], Iterable[Mapping[str, Any]]],
    *,
    benign_labels: Sequence[str] = ("POSITIVE",),
) -> Scorer:
    """Return a scorer from a `transformers` text-classification pipeline, as for sentiment, toxicity or moderation.

    Args:
        pipeline: Called with texts; returns one mapping with `label` and `score` (a probability) per text.
        benign_labels: Labels that speak for an answer, in any case; all others speak against it.

    Example:
        >>> scorer = from_sentiment_pipeline(lambda texts: [{"label": "NEGATIVE", "score": 0.9} for _ in texts])
        >>> scorer(["I can't."])
        [-0.9]
    """
    wanted = {label.casefold() for label in benign_labels}

    def score(texts: Sequence[str]) -> list[float]:
        verdicts = pipeline(list(texts))
        return [
            float(verdict["score"]) * (1 if str(verdict["label"]).casefold() in wanted else -1) for verdict in verdicts
        ]

    return score
