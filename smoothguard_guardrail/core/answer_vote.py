"""The vote of one guarded call: answers arrive wave by wave, each is judged once, and one is elected."""

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
from smoothguard_guardrail.result import Cluster, Reason, Sample, Stance
from smoothguard_guardrail.voting import (
    Answer,
    Election,
    PrototypeScorer,
    benign_scores,
    classify_answers,
    elect,
    embed_answers,
    suspicion,
)


class AnswerVote:
    """The answers of one guarded call, and the vote over them.

    Args:
        config: The guard's configuration.
        components: What judges and groups the answers and elects one.
    """

    def __init__(self, config: SmoothGuardConfig, components: CompleteComponents) -> None:
        self._config = config
        self._components = components
        self._outcomes: list[AIMessage | Exception] = []
        self._reduced: list[Answer] = []
        self._vectors: dict[str, list[float]] = {}
        self._stance_of: dict[str, Stance] = {}
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
    def messages(self) -> list[AIMessage]:
        """The answers as the model gave them, in the order of the samples."""
        return [outcome for outcome in self._outcomes if not isinstance(outcome, Exception)]

    @property
    def answers(self) -> list[Answer]:
        """The answers reduced to what is voted on, in the order of the samples."""
        self._reduced.extend(map(Answer.of, self.messages[len(self._reduced) :]))
        return self._reduced

    @property
    def keys(self) -> list[str]:
        """Canonical form of every answer: answers with equal keys say the same."""
        return [answer.key for answer in self.answers]

    @property
    def stances(self) -> list[Stance]:
        """Stance of every answer."""
        return [self._stance_of[answer.key] for answer in self.answers]

    @property
    def benign(self) -> list[float]:
        """Benign score of every answer, in [-1, 1]; empty where nothing is scored."""
        return [self._benign_of[answer.text] for answer in self.answers] if self._components.scorer else []

    @property
    def usage(self) -> UsageMetadata | None:
        """Tokens summed over the answers; None when the model reports none."""
        usages = [message.usage_metadata for message in self.messages if message.usage_metadata]
        return reduce(add_usage, usages) if usages else None

    def add(self, outcomes: Sequence[AIMessage | Exception]) -> None:
        """Add the outcomes of one wave, in the order of its samples."""
        self._outcomes.extend(outcomes)

    def count(self) -> None:
        """Judge what is new, group all answers and elect; blocking.

        Raises:
            AdapterError: If a user's part broke its protocol.
        """
        if not self.answers:
            return
        new = {answer.key: answer for answer in self.answers if answer.key not in self._stance_of}
        classifier = name_errors("stance_classifier", self._components.stance_classifier)
        self._stance_of |= zip(new, classify_answers(classifier, list(new.values())), strict=True)
        self._score()
        self.election = elect(
            self.answers,
            self.stances,
            clusterer=name_errors("clusterer", self._components.clusterer),
            voter=name_errors("voter", self._components.voter),
            embed=self._embed_answers,
            benign=self.benign,
            by_stance=self._config.vote.rule == "stance",
        )

    def _score(self) -> None:
        scorer = self._components.scorer
        new = [text for text in dict.fromkeys(answer.text for answer in self.answers) if text not in self._benign_of]
        if scorer is None or not new:
            return
        if isinstance(scorer, PrototypeScorer) and scorer.embedder is self._components.embedder:
            scores = benign_scores(scorer, new, self._embed_answers(new))
        else:
            scores = benign_scores(name_errors("scorer", scorer), new)
        self._benign_of |= zip(new, scores, strict=True)

    def _embed_answers(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return embed_answers(self, texts)

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
        """The answer that speaks for the winning group."""
        return self.messages[self._elected().representative]

    @property
    def winning_stance(self) -> Stance:
        """Stance of the answer that speaks for the winning group."""
        return self.stances[self._elected().representative]

    @property
    def abstains(self) -> bool:
        """Whether no group has the agreement that the configuration asks for, or two groups are equally good."""
        election, least = self._elected(), self._config.vote.min_agreement
        return election.agreement < least or (election.tied and least > 0)

    @property
    def reason(self) -> Reason:
        """What decided: which part of the policy made the verdict what it is."""
        if self.abstains:
            return "low_agreement" if self.agreement < self._config.vote.min_agreement else "tie"
        return "refusals" if self.winning_stance == "refuses" else "majority"

    @property
    def clean_overruled(self) -> bool | None:
        """Whether the clean copy's answer lost; None when no clean copy answered."""
        return self.labels[0] != self.winning_label if self._has_clean else None

    @property
    def suspicion(self) -> float | None:
        """How much the clean copy's answer differs from the others', in [0, 1]; None when no clean copy answered."""
        return suspicion(self._elected().labels, self.stances) if self._has_clean else None

    @property
    def suspicious(self) -> bool | None:
        """Whether the suspicion is above the configured threshold; None without one of them."""
        found, threshold = self.suspicion, self._config.vote.suspicion_threshold
        return None if found is None or threshold is None else found > threshold

    @property
    def _has_clean(self) -> bool:
        return self._config.include_clean and bool(self._outcomes) and isinstance(self._outcomes[0], AIMessage)

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The groups, the largest first; representatives are indices of samples."""
        positions = [index for index, outcome in enumerate(self._outcomes) if isinstance(outcome, AIMessage)]
        return tuple(
            cluster.model_copy(update={"representative": positions[cluster.representative]})
            for cluster in self._elected().clusters
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every call's record, failures included."""
        election, benign, answered = self._elected(), self.benign, 0
        samples = []
        for index, outcome in enumerate(self._outcomes):
            clean = self._config.include_clean and index == 0
            if isinstance(outcome, Exception):
                samples.append(Sample(index=index, clean=clean, error=describe(outcome)))
                continue
            samples.append(
                Sample(
                    index=index,
                    clean=clean,
                    cluster=election.labels[answered],
                    stance=self.stances[answered],
                    benign=benign[answered] if benign else None,
                    usage=outcome.usage_metadata,
                    text=self.answers[answered].text if self._config.record_samples else None,
                )
            )
            answered += 1
        return tuple(samples)

    @property
    def labels(self) -> list[int]:
        """Group of every answer, in the order of the samples."""
        return list(self.election.labels) if self.election else []

    @property
    def winning_label(self) -> int:
        """Label of the winning group."""
        return self._elected().winner

    @property
    def agreement(self) -> float:
        """Share of the answers that are in the winning group."""
        return self._elected().agreement

    def _elected(self) -> Election:
        if self.election is None:
            raise RuntimeError("no vote yet: call count() after the first answer")
        return self.election


def describe(error: BaseException) -> str:
    """Return type and message of a failure, for records."""
    return f"{type(error).__name__}: {error}"
