"""The vote of one guarded call: answers arrive wave by wave, are embedded once each, and one is elected."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from numpy.typing import NDArray

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import CompleteComponents
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.protocols import name_errors
from smoothguard_guardrail.result import Cluster, Sample
from smoothguard_guardrail.voting import (
    Election,
    PrototypeScorer,
    answer_key,
    answer_text,
    benign_scores,
    elect,
    embed_answers,
)


class AnswerVote:
    """The answers of one guarded call, and the vote over them.

    Args:
        config: The guard's configuration.
        components: What embeds, groups and scores the answers and elects one.
    """

    def __init__(self, config: SmoothGuardConfig, components: CompleteComponents) -> None:
        self._config = config
        self._components = components
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
        """Canonical form of every answer: answers with equal keys say the same."""
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
        """Add the outcomes of one wave, in the order of its samples."""
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
            clusterer=name_errors("clusterer", self._components.clusterer),
            benign=self.benign,
            voter=name_errors("voter", self._components.voter),
        )

    def _score(self, texts: list[str], embeddings: NDArray[np.float64]) -> list[float]:
        scorer = self._components.scorer
        if isinstance(scorer, PrototypeScorer) and scorer.embedder is self._components.embedder:
            return benign_scores(scorer, texts, embeddings)
        return benign_scores(name_errors("scorer", scorer), texts)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed new texts; vectors of earlier waves are reused."""
        if new := [text for text in texts if text not in self._vectors]:
            vectors = name_errors("embedder", self._embed)(new)
            if len(vectors) != len(new):
                raise AdapterError(f"the embedder returned {len(vectors)} vectors for {len(new)} texts")
            self._vectors |= zip(new, vectors, strict=True)
        return [self._vectors[text] for text in texts]

    def _embed(self, texts: list[str]) -> list[list[float]]:
        return list(self._components.embedder.embed_documents(texts))

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
            raise RuntimeError("no vote yet: call count() after the first answer")
        return self.election


def describe(error: BaseException) -> str:
    """Return type and message of a failure, for records."""
    return f"{type(error).__name__}: {error}"
