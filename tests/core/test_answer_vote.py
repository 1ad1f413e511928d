"""A vote judges and embeds every answer once, with the right parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from smoothguard_guardrail import ConfigurationError, GuardComponents, SmoothGuardConfig, VoteConfig
from smoothguard_guardrail.core.answer_vote import AnswerVote
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.testing import WordEmbeddings
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    KMeansClusterer,
    MeaningClusterer,
    PrototypeScorer,
    SentimentVoter,
    StanceVoter,
)
from tests.helpers import answering, components_of


class CountingEmbeddings(WordEmbeddings):
    def __init__(self, dimensions: int = 256) -> None:
        super().__init__(dimensions)
        self.batches: list[list[str]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(texts)
        return super().embed_documents(texts)


SENTIMENT = SmoothGuardConfig(vote=VoteConfig(rule="sentiment", clusterer="agglomerative"))


def vote_on(*waves: Sequence[str], config: SmoothGuardConfig | None = None, **parts: Any) -> AnswerVote:
    config = config or SmoothGuardConfig(vote=VoteConfig(clusterer="agglomerative"))
    filled = AnswerVote(config, components_of(**parts).complete(config))
    for wave in waves:
        filled.add([AIMessage(text) for text in wave])
        filled.count()
    return filled


def test_every_answer_is_judged_and_embedded_once() -> None:
    embedder, judged = CountingEmbeddings(), []

    def classify(texts: Sequence[str]) -> list[Stance]:
        judged.extend(texts)
        return answering(texts)

    counted = vote_on(["a", "b", "a", ""], ["b", "c"], [], embedder=embedder, stance_classifier=classify)
    assert embedder.batches == [["a", "b"], ["c"]]
    assert judged == ["a", "b", "", "c"]
    assert counted.num_calls == 6
    assert counted.labels == [0, 1, 0, 2, 1, 3]


def test_nothing_is_embedded_for_equal_answers_and_refusals() -> None:
    embedder = CountingEmbeddings()
    counted = vote_on(
        ["a", "A.", "no", "never"],
        embedder=embedder,
        stance_classifier=lambda texts: ["refuses" if text.startswith("n") else "answers" for text in texts],
    )
    assert embedder.batches == []
    assert counted.labels == [0, 0, 1, 1]
    assert (counted.winning_stance, counted.benign) == ("refuses", [])


def test_the_default_scorer_shares_the_embedder_and_its_vectors() -> None:
    embedder = CountingEmbeddings()
    counted = vote_on(["a", "b"], config=SENTIMENT, embedder=embedder)
    assert len(counted.benign) == 2
    assert [batch for batch in embedder.batches if "a" in batch] == [["a", "b"]]


def test_a_scorer_with_an_embedder_of_its_own_uses_it() -> None:
    own = CountingEmbeddings(dimensions=64)
    scorer = PrototypeScorer(own, benign=["no"], harmful=["yes"])
    assert vote_on(["no", "yes"], scorer=scorer).benign == pytest.approx([1.0, -1.0], abs=1e-3)
    assert ["no", "yes"] in own.batches


def test_nothing_is_elected_before_an_answer_came() -> None:
    empty = vote_on([])
    assert (empty.labels, empty.keys, empty.usage, empty.clean_overruled) == ([], [], None, None)
    with pytest.raises(RuntimeError, match="no vote yet"):
        empty.winner  # noqa: B018


def test_a_result_is_suspicious_above_the_threshold_only() -> None:
    answers = ["The code is 7391.", "I can't help with that.", "I can't help with that."]

    def suspicious(threshold: float | None, *, include_clean: bool = True) -> bool | None:
        vote = VoteConfig(suspicion_threshold=threshold)
        return vote_on(answers, config=SmoothGuardConfig(include_clean=include_clean, vote=vote)).suspicious

    assert [suspicious(0.4), suspicious(0.5), suspicious(None)] == [True, False, None]
    assert suspicious(0.5, include_clean=False) is None


def test_components_follow_the_configuration() -> None:
    paper = GuardComponents().complete(SmoothGuardConfig.paper())
    assert isinstance(paper.clusterer, KMeansClusterer)
    assert (paper.voter, paper.scorer) == (SentimentVoter(0.0), None)
    config = SENTIMENT.override(vote={"distance_threshold": 0.2})
    complete = GuardComponents(embedder=WordEmbeddings()).complete(config)
    assert complete.clusterer == AgglomerativeClusterer(distance_threshold=0.2)
    assert isinstance(complete.scorer, PrototypeScorer)
    ours = GuardComponents().complete(SmoothGuardConfig(vote=VoteConfig(refusal_share=0.2)))
    assert isinstance(ours.clusterer, MeaningClusterer)
    assert (ours.voter, ours.scorer) == (StanceVoter(0.2), None)


def test_a_component_that_is_false_is_not_replaced() -> None:
    class Empty(WordEmbeddings):
        def __len__(self) -> int:
            return 0

    embedder = Empty()
    assert GuardComponents(embedder=embedder).complete(SmoothGuardConfig()).embedder is embedder


@pytest.mark.parametrize(
    "parts", [{"embedder": len}, {"scorer": 3}, {"voter": StanceVoter}, {"image_perturber": "blur"}]
)
def test_what_is_not_a_component_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"components\.{next(iter(parts))}: expected"):
        GuardComponents(**parts)
