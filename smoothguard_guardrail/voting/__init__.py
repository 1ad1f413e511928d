"""From many answers to one: what an answer says and does, stances, groups, the vote, early stopping, suspicion."""

from smoothguard_guardrail.voting.answers import Answer, answer_key, answer_text
from smoothguard_guardrail.voting.clusterer import AgglomerativeClusterer, KMeansClusterer
from smoothguard_guardrail.voting.election import Election, elect
from smoothguard_guardrail.voting.embedder import default_embedder, embed_answers
from smoothguard_guardrail.voting.entailment import BidirectionalEntailment
from smoothguard_guardrail.voting.equivalence import EquivalenceClusterer, equivalence_from_chat_model
from smoothguard_guardrail.voting.groups import group_answers
from smoothguard_guardrail.voting.meaning import MeaningClusterer
from smoothguard_guardrail.voting.polarity import yes_or_no
from smoothguard_guardrail.voting.scorer import PrototypeScorer, benign_scores, from_sentiment_pipeline
from smoothguard_guardrail.voting.stance_adapters import (
    stances_from_chat_model,
    stances_from_pipeline,
    stances_with_moderation,
)
from smoothguard_guardrail.voting.stance_classifier import NgramStanceClassifier, classify_answers, classify_stances
from smoothguard_guardrail.voting.stopping import StoppingRule
from smoothguard_guardrail.voting.suspicion import suspicion
from smoothguard_guardrail.voting.voter import SentimentVoter, StanceVoter, Vote

__all__ = [
    "AgglomerativeClusterer",
    "Answer",
    "BidirectionalEntailment",
    "Election",
    "EquivalenceClusterer",
    "KMeansClusterer",
    "MeaningClusterer",
    "NgramStanceClassifier",
    "PrototypeScorer",
    "SentimentVoter",
    "StanceVoter",
    "StoppingRule",
    "Vote",
    "answer_key",
    "answer_text",
    "benign_scores",
    "classify_answers",
    "classify_stances",
    "default_embedder",
    "elect",
    "embed_answers",
    "equivalence_from_chat_model",
    "from_sentiment_pipeline",
    "group_answers",
    "stances_from_chat_model",
    "stances_from_pipeline",
    "stances_with_moderation",
    "suspicion",
    "yes_or_no",
]
