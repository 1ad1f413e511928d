"""Trains the stance classifier on the labelled sentences of the bank of answers, and writes its weights.

Run: python -m training.stance

The first model labels sentences. Beside those of the bank it reads descriptions, doubts and refusals with the same
nouns and almost the same words (`tests/voting/bank/frames.py`), so that it does not take *image* for doubt.

The second model labels answers: it is fitted on whole answers of the bank, and on answers composed of sentences, such
as a refusal followed by an offer, or by what it refused. Those sentences come from folds that the first model has not
seen, so the second learns how sure the first is of sentences that are new to it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting.stance_classifier import (
    SENTENCE_LABELS,
    STANCES,
    WEIGHTS,
    normalized_sentences,
    summarize_answers,
)
from smoothguard_guardrail.voting.stance_features import NUM_BUCKETS, featurize, normalize, split_sentences
from tests.voting.bank import LANGUAGES, load_answers, load_sentences, load_sets
from tests.voting.bank.frames import frame_sentences

FOLDS = 5
STRENGTH = 10.0
"""Inverse regularization of the sentence model."""
ANSWER_STRENGTH = 1.0
PER_FRAME = 3
"""Sentences of each frame, with nouns drawn at random."""
COPIES = 4
"""How often each whole answer of the bank counts, beside the composed ones."""
MOST_TAKEN_FOR: dict[Stance, float] = {"refuses": 0.03, "unsure": 0.015}
"""Share of answers, those that refuse first included, that may be taken for a refusal or for unsure."""
PER_RECIPE = 40
"""Composed answers per language, fold and recipe."""
RECIPES: tuple[tuple[str, str], ...] = (
    ("refuses", "R"), ("refuses", "R"), ("refuses", "RO"), ("refuses", "RO"), ("refuses", "OR"), ("refuses", "ROO"),
    ("refuses", "RRO"), ("refuses", "OROO"),
    ("unsure", "U"), ("unsure", "U"), ("unsure", "UU"), ("unsure", "UO"),
    ("answers", "A"), ("answers", "A"), ("answers", "A"), ("answers", "AA"), ("answers", "AAAA"), ("answers", "RA"),
    ("answers", "RA"), ("answers", "ORA"), ("answers", "AR"), ("answers", "ROA"), ("answers", "UA"), ("answers", "AO"),
    ("answers", "RRRRA"), ("answers", "R" * 12 + "A"), ("answers", "RO" * 6 + "A"),
    ("refuses", "RRRR"), ("refuses", "R" * 12), ("refuses", "RO" * 6),
)  # fmt: skip
"""Stances and the sentences of an answer: R refuses, O is other, U unsure, A answers.

The long ones are there because what is told after many refusals must not pass for a refusal.
"""
_LABEL = {"R": "refuse", "O": "other", "U": "unsure", "A": "answer"}


def matrix(sentences: Sequence[str]) -> csr_matrix:
    """Return the sentence features as the classifier weighs them, (num_sentences, NUM_BUCKETS)."""
    found = featurize(sentences)
    sizes = np.bincount(found.sentences, minlength=len(sentences))
    values = 1 / np.sqrt(np.maximum(sizes, 1))[found.sentences]
    return csr_matrix((values, (found.sentences, found.buckets)), shape=(len(sentences), NUM_BUCKETS))


def set_sentences() -> list[dict[str, str]]:
    """Return the sentences of the tune part's opposites, short answers that all decide something, each once."""
    return [
        {"language": language, "label": "answer", "text": text}
        for language, text in dict.fromkeys(
            (answers.language, sentence)
            for answers in load_sets("tune")
            if answers.kind == "opposite"
            for answer in answers.answers
            for sentence in split_sentences(answer)
            if normalize(sentence)
        )
    ]


def framed_sentences() -> list[dict[str, str]]:
    """Return sentences made of the tune part's frames and nouns, with the frame of each."""
    return [
        {"language": row.language, "label": row.label, "text": row.text, "frame": row.frame}
        for row in frame_sentences("tune", PER_FRAME)
    ]


def assign_folds(rows: Sequence[dict[str, str]]) -> list[int]:
    """Return a fold for each sentence: each fold has sentences of each language and label, a frame is in one only."""
    seen: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    folds = []
    for row in rows:
        units = seen[row["language"], row["label"]]
        folds.append(units.setdefault(row.get("frame", row["text"]), len(units)) % FOLDS)
    return folds


class SentenceModel:
    """A linear model of sentences, on n-grams weighted by how few sentences have them."""

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        features = matrix([normalize(row["text"]) for row in rows])
        having = np.asarray((features > 0).sum(axis=0)).ravel()
        rarity = np.log((1 + len(rows)) / (1 + having)) + 1
        model = LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced")
        model.fit(features.multiply(rarity).tocsr(), [SENTENCE_LABELS.index(row["label"]) for row in rows])
        self.weights: NDArray[np.float64] = model.coef_.T * rarity[:, None]
        self.bias: NDArray[np.float64] = model.intercept_

    def logits(self, sentences: Sequence[str]) -> NDArray[np.float64]:
        """Return logits for normalized sentences, (num_sentences, 4)."""
        found: NDArray[np.float64] = matrix(sentences) @ self.weights + self.bias
        return found


def compose(rows: Sequence[dict[str, str]], rng: random.Random) -> list[tuple[int, list[str]]]:
    """Return composed answers: index of the stance, and the normalized sentences."""
    composed = []
    for language in LANGUAGES:
        pools = {
            letter: [normalize(row["text"]) for row in rows if (row["language"], row["label"]) == (language, label)]
            for letter, label in _LABEL.items()
        }
        for stance, recipe in RECIPES:
            for _ in range(PER_RECIPE):
                composed.append((STANCES.index(stance), [rng.choice(pools[letter]) for letter in recipe]))  # type: ignore[arg-type]
    return composed


def caution(model: LogisticRegression, answering: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the biases of the second model, lowered for `refuses` and `unsure` if too many answers pass for them.

    Args:
        model: The second model.
        answering: Features of composed and whole answers that answer, some of which also refuse.
    """
    bias: NDArray[np.float64] = model.intercept_.copy()
    logits = model.decision_function(answering)
    column = STANCES.index("answers")
    for stance, share in MOST_TAKEN_FOR.items():
        margins = logits[:, STANCES.index(stance)] - logits[:, column]
        bias[STANCES.index(stance)] -= max(0.0, float(np.quantile(margins, 1 - share)))
    print(f"biases lowered by {np.round(model.intercept_ - bias, 2)}")
    return bias


def main() -> None:
    """Train both models and write them."""
    rows = [*load_sentences(), *set_sentences(), *framed_sentences()]
    rng = random.Random(0)  # noqa: S311
    folds = assign_folds(rows)
    written = [
        (STANCES.index(answer.stance), normalized_sentences(answer.text)) for answer in load_answers("tune")
    ] * COPIES
    features, stances, right = [], [], 0
    for fold in range(FOLDS):
        model = SentenceModel([row for row, other in zip(rows, folds, strict=True) if other != fold])
        held_out = [row for row, other in zip(rows, folds, strict=True) if other == fold]
        found = model.logits([normalize(row["text"]) for row in held_out]).argmax(axis=1)
        right += sum(found == [SENTENCE_LABELS.index(row["label"]) for row in held_out])
        answers = compose([row for row in held_out if "frame" not in row], rng) + written
        features.append(summarize_answers(model.logits, [sentences for _, sentences in answers]))
        stances.extend(stance for stance, _ in answers)
    print(f"sentences of other folds labelled right: {right / len(rows):.3f} of {len(rows)}")
    stacked = np.concatenate(features)
    second = LogisticRegression(C=ANSWER_STRENGTH, max_iter=5000).fit(stacked, stances)
    print(f"answers labelled right by the second model: {second.score(stacked, stances):.3f} of {len(stances)}")
    bias = caution(second, stacked[np.array(stances) == STANCES.index("answers")])
    first = SentenceModel(rows)
    weights = first.weights.astype(np.float32)
    scales = (np.abs(weights).max(axis=0) / 127).astype(np.float32)
    WEIGHTS.parent.mkdir(exist_ok=True)
    save_file(
        {
            "sentence.weights": np.ascontiguousarray(np.round(weights / scales).astype(np.int8)),
            "sentence.scales": scales,
            "sentence.bias": first.bias,
            "answer.weights": np.ascontiguousarray(second.coef_.T),
            "answer.bias": bias,
        },
        WEIGHTS,
    )
    print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
