"""Ballots embed and score every text once, and with the right embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import Ballot, Judges
from smoothguard_guardrail.testing import WordEmbeddings
from smoothguard_guardrail.voting import AgglomerativeClusterer, KMeansClusterer, PrototypeScorer, WeightedVoter
from tests.asking import neutral


class CountingEmbeddings(WordEmbeddings):
    def __init__(self, dimensions: int = 256) -> None:
        super().__init__(dimensions)
        self.batches: list[list[str]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(texts)
        return super().embed_documents(texts)


def ballot(*waves: Sequence[str], **parts: Any) -> Ballot:
    config = SmoothGuardConfig()
    filled = Ballot(config, Judges(config, **{"embedder": WordEmbeddings(), "benign_scorer": neutral} | parts))
    for wave in waves:
        filled.add([AIMessage(text) for text in wave])
        filled.count()
    return filled


def test_every_text_is_embedded_and_scored_once() -> None:
    embedder, scored = CountingEmbeddings(), []

    def scorer(texts: Sequence[str]) -> list[float]:
        scored.extend(texts)
        return neutral(texts)

    counted = ballot(["a", "b", "a", ""], ["b", "c"], [], embedder=embedder, benign_scorer=scorer)
    assert embedder.batches == [["a", "b"], ["c"]]
    assert scored == ["a", "b", "", "c"]
    assert counted.num_calls == 6
    assert counted.labels == [0, 1, 0, 2, 1, 3]


def test_the_default_scorer_shares_the_embedder_and_its_vectors() -> None:
    embedder = CountingEmbeddings()
    ballot(["a", "b"], embedder=embedder, benign_scorer=None)
    assert [batch for batch in embedder.batches if "a" in batch] == [["a", "b"]]


def test_a_scorer_with_an_embedder_of_its_own_uses_it() -> None:
    own = CountingEmbeddings(dimensions=64)
    scorer = PrototypeScorer(own, benign=["no"], harmful=["yes"])
    assert ballot(["no", "yes"], benign_scorer=scorer).benign == pytest.approx([1.0, -1.0], abs=1e-3)
    assert ["no", "yes"] in own.batches


def test_nothing_is_elected_before_an_answer_came() -> None:
    empty = ballot([])
    assert (empty.labels, empty.keys, empty.usage, empty.clean_overruled) == ([], [], None, None)
    with pytest.raises(RuntimeError, match="nothing was elected"):
        empty.winner  # noqa: B018


def test_judges_follow_the_configuration() -> None:
    kmeans = Judges(SmoothGuardConfig.paper())
    assert isinstance(kmeans.clusterer, KMeansClusterer)
    assert kmeans.voter == WeightedVoter(0.0)
    assert Judges(SmoothGuardConfig(distance_threshold=0.2)).clusterer == AgglomerativeClusterer(distance_threshold=0.2)
    assert isinstance(Judges(SmoothGuardConfig(), embedder=WordEmbeddings()).benign_scorer, PrototypeScorer)
