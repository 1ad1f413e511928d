"""From many answers to the one that is returned."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.result import Cluster
from smoothguard_guardrail.voting.clusterer import cosine_similarities, unit_rows
from smoothguard_guardrail.voting.groups import group_answers
from smoothguard_guardrail.voting.statements import Statement
from smoothguard_guardrail.voting.voter import Vote

if TYPE_CHECKING:
    from smoothguard_guardrail.protocols import Clusterer, Embed, Voter
    from smoothguard_guardrail.result import Stance
    from smoothguard_guardrail.voting.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """The result of a vote over answers."""

    labels: tuple[int, ...]
    """Group of each answer; 0 is the largest."""
    clusters: tuple[Cluster, ...]
    """By label. A `representative` is an index among the answers."""
    winner: int
    """Label of the winning group."""
    tied: bool
    """Whether another group did as well."""

    @property
    def agreement(self) -> float:
        """Share of the answers in the winning group."""
        return self.clusters[self.winner].share

    @property
    def representative(self) -> int:
        """Index of the elected answer."""
        return self.clusters[self.winner].representative


def elect(
    answers: Sequence[Answer],
    stances: Sequence[Stance],
    *,
    clusterer: Clusterer,
    voter: Voter,
    embed: Embed,
    benign: Sequence[float] = (),
    by_stance: bool = True,
) -> Election:
    """Group the answers, vote, and choose a representative of each group.

    The shortest refusal speaks for the refusals: it has the least room for anything else. Of the other groups it is the
    member that says most of what the group says and least that only it says, so that nothing comes along that the
    others do not support; of members that do so alike, the wording that was given most often. Without stances it is the
    member nearest to the centroid, by cosine, as in the paper.

    Args:
        answers: At least one.
        stances: Stance of each answer.
        clusterer: Groups texts, within the limits that `group_answers` sets.
        voter: Elects a group.
        embed: Embeds texts, for clusterers that need it and for centroids.
        benign: Benign score of each answer, in [-1, 1]; may be empty.
        by_stance: Whether all refusals are one group, and all unsure answers.

    Raises:
        AdapterError: If there is no answer, the lengths differ, or clusterer or voter break their protocol.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> from smoothguard_guardrail.voting import Answer, KMeansClusterer, StanceVoter
        >>> answers = [Answer.of(AIMessage(text)) for text in ("Yes", "No", "yes!")]
        >>> embed = lambda texts: np.array([[len(text)] for text in texts], dtype=float)
        >>> election = elect(
        ...     answers, ["answers"] * 3, clusterer=KMeansClusterer(), voter=StanceVoter(), embed=embed
        ... )
        >>> election.labels, election.winner, election.representative
        ((0, 1, 0), 0, 0)
    """
    if not answers or len(stances) != len(answers) or (benign and len(benign) != len(answers)):
        raise AdapterError(
            f"an election needs answers, one stance for each, and one benign score for each or none, got"
            f" {len(answers)} answers, {len(stances)} stances and {len(benign)} scores"
        )
    alike: list[Stance] = ["answers"] * len(answers)
    grouped = stances if by_stance else alike
    labels = group_answers(answers, grouped, clusterer=clusterer, embed=embed)
    vote = _checked_vote(voter(labels, stances, benign), set(labels))
    clusters = []
    for label in range(max(labels) + 1):
        members = [index for index, other in enumerate(labels) if other == label]
        if by_stance:
            representative = _best_supported(answers, members, stances[members[0]])
        else:
            representative = _nearest_to_centroid(answers, members, embed)
        clusters.append(
            Cluster(
                label=label,
                size=len(members),
                share=len(members) / len(labels),
                stance=stances[representative],
                benign=math.fsum(benign[index] for index in members) / len(members) if benign else None,
                score=float(vote.scores[label]),
                representative=representative,
            )
        )
    return Election(labels=tuple(labels), clusters=tuple(clusters), winner=int(vote.winner), tied=vote.tied)


def _best_supported(answers: Sequence[Answer], members: list[int], stance: Stance) -> int:
    if stance == "refuses":
        return min(members, key=lambda index: len(answers[index].text))
    given = Counter(answers[index].key for index in members)
    if len(given) == 1:
        return members[0]
    content = {index: Statement(answers[index].text).content for index in members}
    having = Counter(word for words in content.values() for word in words)

    def support(index: int) -> tuple[int, int]:
        said = sum(1 if 2 * having[word] > len(members) else -1 for word in content[index])
        return said, given[answers[index].key]

    return max(members, key=support)


def _nearest_to_centroid(answers: Sequence[Answer], members: list[int], embed: Embed) -> int:
    if len({answers[index].key for index in members}) == 1:
        return members[0]
    units = unit_rows(embed([answers[index].text for index in members]))
    nearness = np.round(cosine_similarities(units, units.mean(axis=0, keepdims=True))[:, 0], 9)
    return members[int(nearness.argmax())]


def _checked_vote(vote: object, labels: set[int]) -> Vote:
    if not isinstance(vote, Vote) or not isinstance(vote.scores, Mapping):
        raise AdapterError(
            f"the voter must return a Vote whose scores map each label to a number, got {type(vote).__name__}"
        )
    if vote.winner not in labels or set(vote.scores) != labels:
        raise AdapterError(
            f"the voter must elect and score the labels {sorted(labels)}, it elected {vote.winner!r} and scored "
            f"{sorted(vote.scores)}"
        )
    return vote
