"""From many answers to one: canonical forms, embedding, clustering, benign scores, the vote, early stopping."""

from smoothguard_guardrail.voting.answers import answer_key, answer_text
from smoothguard_guardrail.voting.clusterer import (
    AgglomerativeClusterer,
    KMeansClusterer,
    cluster_answers,
)
from smoothguard_guardrail.voting.contradiction import polarity
from smoothguard_guardrail.voting.election import Election, elect
from smoothguard_guardrail.voting.embedder import default_embedder, embed_answers
from smoothguard_guardrail.voting.scorer import PrototypeScorer, benign_scores, from_sentiment_pipeline
from smoothguard_guardrail.voting.stopping import StoppingRule
from smoothguard_guardrail.voting.voter import Vote, WeightedVoter

__all__ = [
    "AgglomerativeClusterer",
    "Election",
    "KMeansClusterer",
    "PrototypeScorer",
    "StoppingRule",
    "Vote",
    "WeightedVoter",
    "answer_key",
    "answer_text",
    "benign_scores",
    "cluster_answers",
    "default_embedder",
    "elect",
    "embed_answers",
    "from_sentiment_pipeline",
    "polarity",
]
