"""Scores of how benign an answer is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.protocols import Scorer
from smoothguard_guardrail.voting import (
    PrototypeScorer,
    benign_scores,
    default_embedder,
    embed_answers,
    from_sentiment_pipeline,
)
from smoothguard_guardrail.voting.prototypes import BENIGN_PROTOTYPES, HARMFUL_PROTOTYPES
from tests.voting.labelled import COMPLIANCE, HARMLESS, REFUSALS


@pytest.fixture(scope="module")
def scorer() -> PrototypeScorer:
    return PrototypeScorer(default_embedder())


def auc(scorer: Scorer, benign: Sequence[str]) -> float:
    """Return the chance that a benign text scores above a harmful one."""
    return float(roc_auc_score([1] * len(benign) + [0] * len(COMPLIANCE), list(scorer([*benign, *COMPLIANCE]))))


def vader(texts: Sequence[str]) -> list[float]:
    """Return the compound sentiment of each text."""
    analyzer = SentimentIntensityAnalyzer()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in texts]


def test_labelled_sentences_are_held_out() -> None:
    labelled = {*REFUSALS, *HARMLESS, *COMPLIANCE}
    assert len(labelled) >= 60
    assert not labelled & {*BENIGN_PROTOTYPES, *HARMFUL_PROTOTYPES}


@pytest.mark.slow
def test_prototypes_separate_benign_from_harmful_and_sentiment_does_not(scorer: PrototypeScorer) -> None:
    assert auc(scorer, REFUSALS) > 0.95
    assert auc(scorer, HARMLESS) > 0.95
    assert auc(scorer, (*REFUSALS, *HARMLESS)) > auc(vader, (*REFUSALS, *HARMLESS)) + 0.2
    assert auc(vader, REFUSALS) < 0.7


def test_scores_are_bounded_and_embeddings_reused(scorer: PrototypeScorer) -> None:
    texts = [*REFUSALS[:3], "", *COMPLIANCE[:3]]
    scores = scorer(texts)
    assert all(-1 <= score <= 1 for score in scores)
    assert scores[3] == 0
    assert benign_scores(scorer, texts, embed_answers(scorer.embedder, texts)) == pytest.approx(scores)
    assert scorer([]) == []
    assert scorer(["", " "]) == [0.0, 0.0]
    assert isinstance(scorer, Scorer)


class Axes:
    """Benign things point along the first axis, harmful ones along the second."""

    def __init__(self) -> None:
        self.asked = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += 1
        return [[1.0, 0.0] if "good" in text else [0.0, 1.0] for text in texts]


def test_custom_prototypes_are_embedded_once() -> None:
    axes = Axes()
    scorer = PrototypeScorer(axes, benign=["good"], harmful=["bad"])
    threads = [threading.Thread(target=scorer.score, args=(np.eye(2),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert axes.asked == 1
    assert scorer.score(np.eye(2)) == pytest.approx([1, -1], abs=1e-6)
    with pytest.raises(AdapterError, match="dimensions"):
        scorer.score(np.eye(3))


@pytest.mark.parametrize("options", [{"benign": []}, {"harmful": ()}, {"benign": "text"}, {"sharpness": 0.0}])
def test_bad_prototypes_are_rejected(options: dict) -> None:
    with pytest.raises(ConfigurationError):
        PrototypeScorer(Axes(), **options)


def test_a_sentiment_pipeline_is_a_scorer() -> None:
    def pipeline(texts: list[str]) -> list[dict]:
        return [{"label": "POSITIVE" if "fine" in text else "NEGATIVE", "score": 0.75} for text in texts]

    scorer = from_sentiment_pipeline(pipeline)
    assert isinstance(scorer, Scorer)
    assert benign_scores(scorer, ("All fine.", "Bad.")) == [0.75, -0.75]
    moderation = from_sentiment_pipeline(pipeline, benign_labels=("negative", "neutral"))
    assert benign_scores(moderation, ["Bad."]) == [0.75]


@pytest.mark.parametrize("scores", [[0.0], [0.0, 2.0], [0.0, float("nan")], ["a", "b"], None, 3])
def test_broken_scorers_are_named(scores: object) -> None:
    def broken(texts: Sequence[str]) -> object:
        return scores

    with pytest.raises(AdapterError, match="the scorer"):
        benign_scores(broken, ["a", "b"])  # type: ignore[arg-type]
