"""The default clusterer: groups answers by what they state, so that one deciding word keeps two of them apart."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail._internal.once import load_once
from smoothguard_guardrail.voting.matching import Matcher

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embed

SAME, OPPOSED = 0.9, 0.05
"""Probability of saying the same above which two answers join, and below which they keep their groups apart."""
LIKELY, MIN_GROUP = 0.75, 3
"""Mean probability at which an answer that stands alone joins a group, and how many different answers that has."""


def join_matching(
    same: NDArray[np.float64], threshold: float = SAME, opposed: float = OPPOSED, likely: float = LIKELY
) -> list[int]:
    """Return one label per answer: the surest pairs join first, and with them their groups.

    Then answers that stand alone join a group of three or more that they match on average: a wording that is sure of no
    other single one. Neither groups nor answers join if any two of their answers oppose each other.

    Args:
        same: Probability that two answers say the same, (num_answers, num_answers), symmetric.
        threshold: Probability at which two answers join.
        opposed: Probability below which two answers oppose each other.
        likely: Mean probability at which an answer joins a group.

    Example:
        >>> join_matching(np.array([[1, 0.95, 0.5], [0.95, 1, 0.97], [0.5, 0.97, 1]]))
        [0, 0, 0]
        >>> join_matching(np.array([[1, 0.95, 0.01], [0.95, 1, 0.97], [0.01, 0.97, 1]]))
        [0, 1, 1]
    """
    count = len(same)
    labels = list(range(count))
    for first, second in sorted(itertools.combinations(range(count), 2), key=lambda pair: (-same[pair], pair)):
        if same[first, second] < threshold:
            break
        ours = [index for index in range(count) if labels[index] == labels[first]]
        theirs = [index for index in range(count) if labels[index] == labels[second]]
        if labels[first] == labels[second] or (same[np.ix_(ours, theirs)] < opposed).any():
            continue
        for index in theirs:
            labels[index] = labels[first]
    _join_lone(labels, same, opposed, likely)
    ranks = {label: rank for rank, label in enumerate(dict.fromkeys(labels))}
    return [ranks[label] for label in labels]


def _join_lone(labels: list[int], same: NDArray[np.float64], opposed: float, likely: float) -> None:
    """Move answers that stand alone to the group that they match best on average, the surest first."""
    while True:
        groups = [[place for place, label in enumerate(labels) if label == group] for group in dict.fromkeys(labels)]
        offers = [
            (same[lone[0], group].mean(), lone[0], group[0])
            for lone in groups
            for group in groups
            if len(lone) == 1 and len(group) >= MIN_GROUP and same[lone[0], group].min() >= opposed
        ]
        mean, place, member = max(offers, key=lambda offer: offer[0], default=(0.0, 0, 0))
        if not offers or mean < likely:
            return
        labels[place] = labels[member]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeaningClusterer:
    """Groups answers that state the same, in twelve languages and without embeddings.

    Two answers that differ in the word that decides (a colour, a name, a number, yes or no) are kept apart, however
    similar the rest is; wordings of one fact are joined. See `Matcher` for how two answers are compared.

    Args:
        same: Probability of saying the same at which two answers join, in (0, 1).
        opposed: Probability below which two answers keep their groups apart, in [0, `same`].
        likely: Mean probability at which an answer that stands alone joins a group of three or more different ones.

    Example:
        >>> texts = ["It was approved.", "It was rejected.", "The request was approved."]
        >>> MeaningClusterer()(texts)
        [0, 1, 0]
    """

    same: float = SAME
    opposed: float = OPPOSED
    likely: float = LIKELY

    def __call__(self, texts: Sequence[str], embed: Embed | None = None) -> list[int]:
        """Return one label per text; embeddings are not used."""
        counts = Counter(texts)
        labels = dict(zip(counts, join_matching(_compare(counts), self.same, self.opposed, self.likely), strict=True))
        return [labels[text] for text in texts]

    def opposed_pairs(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Return which of the different texts oppose each other, (num_different, num_different), by first appearance.

        Example:
            >>> bool(MeaningClusterer().opposed_pairs(["It is red.", "It is green."])[0, 1])
            True
        """
        opposed: NDArray[np.bool_] = _compare(Counter(texts)) < self.opposed
        return opposed


def _compare(counts: Counter[str]) -> NDArray[np.float64]:
    return _matcher()(list(counts), list(counts.values()))


@load_once
def _matcher() -> Matcher:
    return Matcher()
