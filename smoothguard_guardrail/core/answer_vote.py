"""The answers of one guarded call: collected wave by wave, embedded once each, elected, reported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, reduce

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from numpy.typing import NDArray

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.protocols import BenignScorer, Clusterer, Embedder, Voter, blamed
from smoothguard_guardrail.result import Cluster, Sample
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    Election,
    KMeansClusterer,
    PrototypeScorer,
    WeightedVoter,
    answer_key,
    answer_text,
    benign_scores,
    default_embedder,
    elect,
    embed_answers,
)


class Judges:
    """The parts that turn answers into a vote, built once per guard; whatever is None is the configured default.

    Args:
        config: The guard's configuration.
        embedder: Embeds the answers.
        clusterer: Groups them.
        benign_scorer: Scores how benign they are.
        voter: Elects a cluster.
    """

    def __init__(
        self,
        config: SmoothGuardConfig,
        *,
        embedder: Embedder | None = None,
        clusterer: Clusterer | None = None,
        benign_scorer: BenignScorer | None = None,
        voter: Voter | None = None,
    ) -> None:
        self._embedder = embedder
        self._benign_scorer = benign_scorer
        self.clusterer = clusterer or _clusterer(config)
        self.voter = voter or WeightedVoter(config.benign_weight)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder; the default one is loaded on first use."""
        return self._embedder or default_embedder()

    @cached_property
    def benign_scorer(self) -> BenignScorer:
        """The benign scorer; the default one shares the embedder."""
        return self._benign_scorer or PrototypeScorer(self.embedder)


class Ballot:
    """The answers of one guarded call.

    Args:
        config: The guard's configuration.
        judges: The user's parts.
    """

    def __init__(self, config: SmoothGuardConfig, judges: Judges) -> None:
        self._config = config
        self._judges = judges
        self._outcomes: list[AIMessage | Exception] = []
        self._keys: list[str] = []
        self._vectors: dict[str, list[float]] = {}
        self._benign_of: dict[str, float] = {}
        self.election: Election | None = None

    @property
    def num_calls(self) -> int:
        """How many outcomes came in."""
        return len(self._outcomes)

    @property
    def failures(self) -> list[Exception]:
        """The failures, in the order of the samples."""
        return [outcome for outcome in self._outcomes if isinstance(outcome, Exception)]

    @property
    def answers(self) -> list[AIMessage]:
        """The answers, in the order of the samples."""
        return [outcome for outcome in self._outcomes if not isinstance(outcome, Exception)]

    @property
    def keys(self) -> list[str]:
        """Canonical form of every answer: equal keys say the same."""
        self._keys.extend(map(answer_key, self.answers[len(self._keys) :]))
        return self._keys

    @property
    def benign(self) -> list[float]:
        """Benign score of every answer, in [-1, 1]."""
        return [self._benign_of[answer_text(answer)] for answer in self.answers]

    @property
    def usage(self) -> UsageMetadata | None:
        """Tokens summed over the answers; None when the model reports none."""
        usages = [answer.usage_metadata for answer in self.answers if answer.usage_metadata]
        return reduce(add_usage, usages) if usages else None

    def add(self, outcomes: Sequence[AIMessage | Exception]) -> None:
        """Take the outcomes of one wave, in the order of its samples."""
        self._outcomes.extend(outcomes)

    def count(self) -> None:
        """Embed and score what is new, cluster all answers and elect; blocking.

        Raises:
            AdapterError: If a user's part broke its protocol.
        """
        texts = [answer_text(answer) for answer in self.answers]
        if not texts:
            return
        embeddings = embed_answers(self, texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self._benign_of]:
            rows = embeddings[[texts.index(text) for text in new]]
            self._benign_of |= zip(new, self._score(new, rows), strict=True)
        self.election = elect(
            self.keys,
            texts,
            embeddings,
            clusterer=blamed("clusterer", self._judges.clusterer),
            benign=self.benign,
            voter=blamed("voter", self._judges.voter),
        )

    def _score(self, texts: list[str], embeddings: NDArray[np.float64]) -> list[float]:
        scorer = self._judges.benign_scorer
        if isinstance(scorer, PrototypeScorer) and scorer.embedder is self._judges.embedder:
            return benign_scores(scorer, texts, embeddings)
        return benign_scores(blamed("benign scorer", scorer), texts)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed what is new: the ballot is an embedder that remembers, so no answer is embedded once per wave."""
        if new := [text for text in texts if text not in self._vectors]:
            vectors = blamed("embedder", self._embed)(new)
            if len(vectors) != len(new):
                raise AdapterError(f"the embedder returned {len(vectors)} vectors for {len(new)} texts")
            self._vectors |= zip(new, vectors, strict=True)
        return [self._vectors[text] for text in texts]

    def _embed(self, texts: list[str]) -> list[list[float]]:
        return list(self._judges.embedder.embed_documents(texts))

    @property
    def winner(self) -> AIMessage:
        """The answer that speaks for the winning cluster."""
        return self.answers[self._elected().representative]

    @property
    def clean_overruled(self) -> bool | None:
        """Whether the clean copy's answer lost; None when no clean copy answered."""
        if not self._config.include_clean or not self._outcomes or isinstance(self._outcomes[0], Exception):
            return None
        election = self._elected()
        return election.labels[0] != election.winner

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters, the largest first; representatives are indices of samples."""
        positions = [index for index, outcome in enumerate(self._outcomes) if isinstance(outcome, AIMessage)]
        return tuple(
            cluster.model_copy(update={"representative": positions[cluster.representative]})
            for cluster in self._elected().clusters
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every call's record, failures included."""
        election, answered = self._elected(), 0
        samples = []
        for index, outcome in enumerate(self._outcomes):
            clean = self._config.include_clean and index == 0
            if isinstance(outcome, Exception):
                samples.append(Sample(index=index, clean=clean, error=describe(outcome)))
                continue
            text = answer_text(outcome)
            samples.append(
                Sample(
                    index=index,
                    clean=clean,
                    cluster=election.labels[answered],
                    benign=self._benign_of[text],
                    similarity=election.similarities[answered],
                    usage=outcome.usage_metadata,
                    text=text if self._config.record_samples else None,
                )
            )
            answered += 1
        return tuple(samples)

    @property
    def labels(self) -> list[int]:
        """Cluster of every answer, in the order of the samples."""
        return list(self.election.labels) if self.election else []

    @property
    def winning_label(self) -> int:
        """Label of the winning cluster."""
        return self._elected().winner

    @property
    def agreement(self) -> float:
        """Share of the answers that are in the winning cluster."""
        return self._elected().agreement

    def _elected(self) -> Election:
        if self.election is None:
            raise RuntimeError("nothing was elected: call count() after an answer came in")
        return self.election


def describe(error: BaseException) -> str:
    """Return type and message of a failure, for records."""
    return f"{type(error).__name__}: {error}"


def _clusterer(config: SmoothGuardConfig) -> Clusterer:
    if config.clusterer == "kmeans":
        return KMeansClusterer()
    return AgglomerativeClusterer(distance_threshold=config.distance_threshold)
