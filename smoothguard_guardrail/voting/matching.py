"""How likely it is that two answers say the same: features of a pair, and a small network over them."""

from __future__ import annotations

import itertools
from collections import Counter
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail.voting.lexicon import PERSONS, PLACES
from smoothguard_guardrail.voting.statements import MIN_WORD, Statement, related

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MAX_PLACES = 250_000
"""Pairs of places with the same word, one in each of two answers, that an alignment looks at."""
MATCHER = Path(__file__).parent / "weights" / "matcher.safetensors"


class Matcher:
    """Compares answers to one request by aligning their words.

    It sees which words, numbers and negations two answers share, which only one has, which stand in the same place of
    otherwise equal sentences, as `red` and `green` in "It is red." and "It is green.", and how many of the other
    answers have them too: a word of one answer is wording, a word of three answers that five others replace decides.
    Equal words say the same, also after an opening yes or no that one of the two lacks. Languages differ only in closed
    classes such as articles and number words. It was fitted on the tune part of `tests/voting/bank`;
    `python -m training.matcher` fits it.

    Args:
        path: A safetensors file written by `training.matcher`.

    Example:
        >>> texts = ["The total is 20 dollars.", "It's $20.", "The total is 30 dollars."]
        >>> same = Matcher()(texts, [3, 2, 3])
        >>> bool(same[0, 1] > same[0, 2])
        True
    """

    def __init__(self, path: Path = MATCHER) -> None:
        from safetensors.numpy import load_file

        self._weights = load_file(path)

    def __call__(self, texts: Sequence[str], counts: Sequence[int]) -> NDArray[np.float64]:
        """Return the probability that two answers say the same.

        Args:
            texts: The different answers.
            counts: How often each was given.

        Returns:
            Float64 (num_texts, num_texts), symmetric.
        """
        same = np.eye(len(texts))
        places = list(itertools.combinations(range(len(texts)), 2))
        if places:
            statements = [Statement(text) for text in texts]
            found = self.score(pair_features(statements, counts))
            for (first, second), probability in zip(places, found.tolist(), strict=True):
                equal = _claim_the_same(statements[first], statements[second])
                same[first, second] = same[second, first] = 1.0 if equal else probability
        return same

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities for rows of `pair_features`."""
        weights = self._weights
        scaled = (rows - weights["mean"]) / weights["scale"]
        hidden = np.maximum(scaled @ weights["hidden.weights"] + weights["hidden.bias"], 0)
        logits = hidden @ weights["output.weights"] + weights["output.bias"]
        found: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return found


def _claim_the_same(first: Statement, second: Statement) -> bool:
    """Return whether the words are equal but for an opening yes, or no, that one of them has and the other lacks."""
    return first.claim == second.claim != () and first.yes_or_no * second.yes_or_no >= 0


class _Pair:
    """Two statements, with what only one of them has."""

    def __init__(self, first: Statement, second: Statement) -> None:
        self.first, self.second = first, second
        ours, theirs = self._contrasting()
        self.contents = first.content | ours, second.content | theirs
        self.shared = _shared(first, second), _shared(second, first)
        self.only = tuple(content - shared for content, shared in zip(self.contents, self.shared, strict=True))

    @cached_property
    def opcodes(self) -> Sequence[tuple[str, int, int, int, int]]:
        first, second = self.first.words, self.second.words
        too_many = _words_in_too_many_places(first, second)
        return SequenceMatcher(too_many.__contains__, first, second, autojunk=False).get_opcodes()

    def _contrasting(self) -> tuple[set[str], set[str]]:
        """Return the function words of each that decide, because one stands in the place of the other: *he* and *she*.

        *Here* and *there* do not where they open a sentence: "There is a dog."
        """
        first, second = self.first.words, self.second.words
        found = [
            pair
            for kind, start, end, other_start, _ in self.opcodes
            if kind == "replace"
            for pair in [(first[start], second[other_start])]
            if pair in PERSONS or (pair in PLACES and (start or end == len(first)))
        ]
        return {mine for mine, _ in found}, {theirs for _, theirs in found}

    def replaced(self) -> list[tuple[int, int]]:
        """Return, for each place where one has other deciding words than the other, how many words each has there."""
        return [
            (end - start, other_end - other_start)
            for kind, start, end, other_start, other_end in self.opcodes
            if kind == "replace"
            and any(word in self.only[0] for word in self.first.words[start:end])
            and any(word in self.only[1] for word in self.second.words[other_start:other_end])
        ]


def _shared(mine: Statement, other: Statement) -> frozenset[str]:
    """Return the words of a statement that another has too, in some form."""
    return frozenset(
        word
        for word in mine.content
        if word in other.content or any(related(word, each) for each in other.content_by_start.get(word[:MIN_WORD], ()))
    )


def _words_in_too_many_places(first: Sequence[str], second: Sequence[str]) -> frozenset[str]:
    """Return the most frequent words, on which answers are not aligned, where it would take too long with them.

    That is so in very long answers, and where a model repeats itself without end.
    """
    ours, theirs = Counter(first), Counter(second)
    places = {word: count * theirs[word] for word, count in ours.items() if word in theirs}
    total, found = sum(places.values()), set()
    for word in sorted(places, key=places.__getitem__, reverse=True):
        if total <= _MAX_PLACES:
            break
        found.add(word)
        total -= places[word]
    return frozenset(found)


def pair_features(statements: Sequence[Statement], counts: Sequence[int]) -> NDArray[np.float64]:
    """Return the features of all pairs of answers, in the order of `itertools.combinations`.

    Args:
        statements: The different answers.
        counts: How often each was given.

    Returns:
        Float64 (num_pairs, num_features); the order of the answers does not matter.
    """
    support: Counter[str] = Counter()
    for statement, count in zip(statements, counts, strict=True):
        for word in set(statement.words):
            support[word] += count
    return np.stack(
        [
            np.concatenate([_alone(pair), _among_others(pair, support, (counts[first], counts[second]), sum(counts))])
            for first, second in itertools.combinations(range(len(statements)), 2)
            for pair in [_Pair(statements[first], statements[second])]
        ]
    )


def _alone(pair: _Pair) -> NDArray[np.float64]:
    first, second = pair.first, pair.second
    shared, only = [len(words) for words in pair.shared], sorted(len(words) for words in pair.only)
    sizes = [len(words) for words in pair.contents]
    lengths = sorted((len(first.words), len(second.words)))
    equal = sum(end - start for kind, start, end, _, _ in pair.opcodes if kind == "equal")
    replaced = pair.replaced()
    ours, theirs = first.numbers, second.numbers
    polarities = [statement.yes_or_no or (-1 if statement.denies else 0) for statement in (first, second)]
    return np.array(
        [
            min(shared),
            *only,
            max(shared) / max(1, min(sizes)) if min(sizes) else -1.0,
            sum(shared) / max(1, sum(sizes)),
            len(replaced),
            sum(max(place) <= 2 for place in replaced),
            2 * equal / max(1, sum(lengths)),
            bool(ours and theirs and not (ours <= theirs or theirs <= ours)),
            len(ours & theirs),
            bool(ours) != bool(theirs),
            ours != theirs,
            first.denies != second.denies,
            first.yes_or_no * second.yes_or_no,
            polarities[0] * polarities[1],
            *np.log1p(lengths),
            min(sizes) == 0,
            bool(only[0]),
            bool(replaced) and 2 * equal >= 0.5 * sum(lengths),
            min(lengths) <= 3,
            _extends(pair),
        ],
        dtype=np.float64,
    )


def _extends(pair: _Pair) -> bool:
    """Return whether one answer states all that the other does, and denies nothing of it."""
    first, second = pair.first, pair.second
    return (
        min(len(words) for words in pair.shared) > 0
        and not all(pair.only)
        and first.denies == second.denies
        and first.yes_or_no * second.yes_or_no >= 0
    )


def _among_others(pair: _Pair, support: Counter[str], counts: tuple[int, int], total: int) -> NDArray[np.float64]:
    """Return how many of the answers have the words that two share, and those that only one has."""
    only = sorted(max((support[word] for word in words), default=0) / total for words in pair.only)
    spread = [
        max((support[word] - count for word in words), default=0) / total
        for words, count in zip(pair.only, counts, strict=True)
    ]
    shared = [support[word] / total for words in pair.shared for word in words]
    partly = [share for share in shared if share < 1]
    return np.array(
        [
            *only,
            *sorted(spread),
            max(shared, default=0.0),
            max(partly, default=0.0),
            min(shared, default=0.0),
            1 / total,
        ],
        dtype=np.float64,
    )
