"""Many answers into one: what they say, which agree, how benign they are, who wins, and when to stop asking."""

from smoothguard_guardrail.voting.answers import answer_key, answer_text
from smoothguard_guardrail.voting.clusterer import (
    AgglomerativeClusterer,
    KMeansClusterer,
    cluster_answers,
)
from smoothguard_guardrail.voting.contradiction import polarity
from smoothguard_guardrail.voting.election import ElectedCluster, Election, elect
from smoothguard_guardrail.voting.embedder import default_embedder, embed_answers
from smoothguard_guardrail.voting.scorer import PrototypeScorer, from_sentiment_pipeline, score_answers
from smoothguard_guardrail.voting.stopping import StoppingRule
from smoothguard_guardrail.voting.voter import ClusterScore, Vote, WeightedVoter

__all__ = [
    "AgglomerativeClusterer",
    "ClusterScore",
    "ElectedCluster",
    "Election",
    "KMeansClusterer",
    "PrototypeScorer",
    "StoppingRule",
    "Vote",
    "WeightedVoter",
    "answer_key",
    "answer_text",
    "cluster_answers",
    "default_embedder",
    "elect",
    "embed_answers",
    "from_sentiment_pipeline",
    "polarity",
    "score_answers",
]
