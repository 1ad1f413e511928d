"""Fits the matcher of answers on the sets of the bank's tune part, and writes its weights.

Run: python -m training.matcher

Pairs within a group of a set say the same, pairs across groups do not. Pairs are also shown alone and given several
times, and wordings of one fact with a forged minority or with one answer of another fact, since how many answers have a
word is what the matcher goes by.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from smoothguard_guardrail.voting.matching import MATCHER, pair_features
from smoothguard_guardrail.voting.statements import Statement
from tests.voting.bank import BankSet, load_sets

HIDDEN, NETWORKS, PENALTY = 48, 4, 1.0
OPPOSITE_WEIGHT = 12
"""How much a pair of opposites counts: there is one of them in a set, and up to 28 pairs in others."""
WORDINGS_WEIGHT, ALONE_WEIGHT = 6, 3
"""How much a pair of wordings counts among eight, and alone: most other pairs contradict each other."""
PAIRS_ALONE, FORGERIES = 4, 3
"""Pairs of a set that are also learnt alone, and forged minorities, for each set of wordings."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Answers in one situation: the different texts, how often each was given, and which mean the same."""

    texts: list[str]
    counts: list[int]
    groups: list[int]
    weight: int = 1

    def rows(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the features of all pairs, and whether they say the same."""
        features = pair_features([Statement(text) for text in self.texts], self.counts)
        return features, np.array([mine == theirs for mine, theirs in itertools.combinations(self.groups, 2)])


def cases_of(answers: BankSet, others: Sequence[BankSet], rng: random.Random) -> list[Case]:
    """Return a set as it is, and situations made from it.

    These are pairs alone, pairs given several times, a forged minority, and one answer that contradicts all others.
    """
    texts, groups = list(answers.answers), list(answers.groups)
    if answers.kind == "opposite":
        if _differ_in_order_alone(texts):
            return []
        first = rng.randint(2, 6)
        return [
            Case(texts=texts, counts=counts, groups=groups, weight=OPPOSITE_WEIGHT)
            for counts in ([1, 1], [4, 4], [first, 8 - first])
        ]
    weight = WORDINGS_WEIGHT if answers.kind == "same" else 1
    cases = [Case(texts=texts, counts=[1] * len(texts), groups=groups, weight=weight)]
    if answers.kind == "mixed":
        majority = max(groups, key=groups.count)
        wordings = [text for text, group in zip(texts, groups, strict=True) if group == majority]
        cases += [
            Case(texts=[*wordings, text], counts=[1] * (len(wordings) + 1), groups=[0] * len(wordings) + [1])
            for text, group in zip(texts, groups, strict=True)
            if group != majority
        ]
    if answers.kind == "same":
        for pair in rng.sample(list(itertools.combinations(texts, 2)), PAIRS_ALONE):
            first = rng.randint(2, 6)
            cases.append(Case(texts=list(pair), counts=[1, 1], groups=[0, 0], weight=ALONE_WEIGHT))
            cases.append(Case(texts=list(pair), counts=[first, 8 - first], groups=[0, 0], weight=ALONE_WEIGHT))
        cases += [case for other in others for case in forge(texts, list(other.answers), rng)]
    return cases


def _differ_in_order_alone(texts: Sequence[str]) -> bool:
    """Return whether two opposites have the same deciding words, as "Ann called Bob." and "Bob called Ann.".

    The matcher can't tell them from two wordings of one fact; to learn them would split those.
    """
    first, second = (Statement(text) for text in texts)
    return (first.content, first.numbers, first.denies, first.yes_or_no) == (
        second.content,
        second.numbers,
        second.denies,
        second.yes_or_no,
    )


def forge(texts: list[str], others: list[str], rng: random.Random) -> list[Case]:
    """Return a set in which a minority says another word in the place of the one that most answers share."""
    key, replacement = (_shared_word(written) for written in (texts, others))
    if key is None or replacement is None or key == replacement or key.isdigit() != replacement.isdigit():
        return []
    pattern = re.compile(rf"(?<!\w){re.escape(key)}(?!\w)", re.IGNORECASE)
    having = [place for place, text in enumerate(texts) if pattern.search(text)]
    forged = set(rng.sample(having, min(len(having), rng.randint(2, 4))))
    written = [pattern.sub(replacement, text) if place in forged else text for place, text in enumerate(texts)]
    groups = [int(place in forged) for place in range(len(texts))]
    return [Case(texts=written, counts=[1] * len(written), groups=groups)]


def _shared_word(texts: Sequence[str]) -> str | None:
    """Return the deciding word that most answers of a set share; None where there is no such word."""
    counts = Counter(word for text in texts for word in sorted(Statement(text).content))
    word, count = counts.most_common(1)[0] if counts else ("", 0)
    return word if count >= 5 and word.lower() in " ".join(texts).lower() else None


def fit(
    rows: NDArray[np.float64], same: NDArray[np.bool_], weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the weights of several small networks joined into one, which averages their logits."""
    scaler = StandardScaler().fit(rows)
    repeated = np.repeat(np.arange(len(rows)), weights)
    networks = [
        MLPClassifier((HIDDEN,), alpha=PENALTY, max_iter=200, early_stopping=False, random_state=seed).fit(
            scaler.transform(rows[repeated]), same[repeated]
        )
        for seed in range(NETWORKS)
    ]
    return {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "hidden.weights": np.concatenate([network.coefs_[0] for network in networks], axis=1),
        "hidden.bias": np.concatenate([network.intercepts_[0] for network in networks]),
        "output.weights": np.concatenate([network.coefs_[1][:, 0] for network in networks]) / NETWORKS,
        "output.bias": np.array(np.mean([network.intercepts_[1][0] for network in networks])),
    }


def training_cases(sets: Sequence[BankSet]) -> list[tuple[int, Case]]:
    """Return the situations to learn from, each with the index of its set."""
    rng = random.Random(0)  # noqa: S311
    found = []
    for index, answers in enumerate(sets):
        peers = [
            other for other in sets if other.language == answers.language and other.kind == "same" and other != answers
        ]
        found += [(index, case) for case in cases_of(answers, rng.sample(peers, min(FORGERIES, len(peers))), rng)]
    return found


def stack(cases: Sequence[Case]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return features, labels and weights of all pairs of the cases."""
    rows = [case.rows() for case in cases]
    weights = [np.full(len(same), case.weight) for case, (_, same) in zip(cases, rows, strict=True)]
    return np.concatenate([row for row, _ in rows]), np.concatenate([same for _, same in rows]), np.concatenate(weights)


def main() -> None:
    """Fit and write."""
    sets = load_sets("tune")
    rows, same, weights = stack([case for _, case in training_cases(sets)])
    save_file({name: np.ascontiguousarray(value) for name, value in fit(rows, same, weights).items()}, MATCHER)
    print(f"{MATCHER.name}: {MATCHER.stat().st_size / 1024:.1f} KiB, from {len(rows)} pairs of {len(sets)} sets")


if __name__ == "__main__":
    main()
