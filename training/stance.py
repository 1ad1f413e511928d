"""Trains the stance classifier on the labelled sentences of the bank of answers, and writes its weights.

Run: python -m training.stance

The first model labels sentences. Beside those of the bank it reads descriptions, doubts and refusals with the same
nouns and almost the same words (`tests/voting/bank/frames.py`), so that it does not take *image* for doubt.

The second model labels answers: it is fitted on whole answers of the bank, on sentences made of frames, and on answers
composed of sentences, such as a refusal followed by an offer, or by what it refused. Those sentences come from folds
that the first model has not seen, so the second learns how sure the first is of sentences that are new to it.
"""

from __future__ import annotations

import argparse
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from benchmarks.decisions import STANCE_RATES, stance_rows, table
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting.stance_classifier import (
    SENTENCE_LABELS,
    STANCES,
    WEIGHTS,
    NgramStanceClassifier,
    normalized_sentences,
    summarize_answers,
)
from smoothguard_guardrail.voting.stance_features import NUM_BUCKETS, featurize, normalize, split_sentences
from tests.voting.bank import LANGUAGES, BankAnswer, load_answers, load_sentences, load_sets
from tests.voting.bank.frames import frame_sentences

FOLDS = 5
STRENGTH = 2.0
"""Inverse regularization of the sentence model."""
LEAST_RATIO = 1.0
"""Added to the log-count ratio of every n-gram, so that those that all labels share still count."""
ANSWER_STRENGTH = 1.0
PER_FRAME = 5
"""Sentences of each frame, with nouns drawn at random."""
COPIES = 20
"""How often each whole answer of the bank counts, beside the composed ones."""
MOST_TAKEN_FOR: dict[Stance, float] = {"refuses": 0.03, "unsure": 0.01}
"""Share of answers, those that refuse first included, that may be taken for a refusal or for unsure."""
FRAMED_COPIES = 2
"""How often each sentence made of a frame counts as an answer."""
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
_STANCE: dict[str, Stance] = {"refuse": "refuses", "unsure": "unsure", "answer": "answers"}
_LABEL = {"R": "refuse", "O": "other", "U": "unsure", "A": "answer"}


def matrix(sentences: Sequence[str]) -> csr_matrix:
    """Return the sentence features as the classifier weighs them, (num_sentences, NUM_BUCKETS)."""
    found = featurize(sentences)
    sizes = np.bincount(found.sentences, minlength=len(sentences))
    values = 1 / np.sqrt(np.maximum(sizes, 1))[found.sentences]
    return csr_matrix((values, (found.sentences, found.buckets)), shape=(len(sentences), NUM_BUCKETS))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSentence:
    """A normalized sentence, and what must not be split when sentences are held out."""

    language: str
    label: str
    text: str
    unit: str
    """The frame, the answer, or the sentence itself."""
    is_framed: bool = False


def labelled_sentences(answers: Sequence[BankAnswer]) -> list[LabelledSentence]:
    """Return the sentences of some answers, and those of the tune part's sentences, opposites and frames."""
    found = [
        LabelledSentence(language=answer.language, label=_LABEL[letter], text=sentence, unit=answer.text)
        for answer in answers
        for letter, sentence in zip(answer.labels, all_sentences(answer.text), strict=True)
    ]
    found += [
        LabelledSentence(language=row["language"], label=row["label"], text=normalize(row["text"]), unit=row["text"])
        for row in load_sentences()
    ]
    # The opposites are short answers that all decide something.
    found += [
        LabelledSentence(language=answers.language, label="answer", text=sentence, unit=sentence)
        for answers in load_sets("tune")
        if answers.kind == "opposite"
        for answer in answers.answers
        for sentence in all_sentences(answer)
    ]
    found += [
        LabelledSentence(
            language=row.language, label=row.label, text=normalize(row.text), unit=row.frame, is_framed=True
        )
        for row in frame_sentences("tune", PER_FRAME)
    ]
    return list(dict.fromkeys(found))


def all_sentences(text: str) -> list[str]:
    """Return the normalized sentences of a text."""
    return [sentence for part in split_sentences(text) if (sentence := normalize(part))]


def fold_of(unit: str) -> int:
    """Return the fold in which a unit is held out."""
    return zlib.crc32(unit.encode()) % FOLDS


def _column_sums(rows: csr_matrix) -> NDArray[np.float64]:
    return np.asarray(rows.sum(axis=0), dtype=np.float64).ravel()


class SentenceModel:
    """A linear model for each label, on n-grams weighted by how well they tell this label from the others.

    Source: Wang and Manning, "Baselines and Bigrams" (2012): logistic regression on naive Bayes' log-count ratios.
    """

    def __init__(self, rows: Sequence[LabelledSentence]) -> None:
        features = matrix([row.text for row in rows])
        labels = np.array([SENTENCE_LABELS.index(row.label) for row in rows])
        has = features > 0
        rarity = np.log((1 + len(rows)) / (1 + _column_sums(has))) + 1
        self.weights = np.zeros((NUM_BUCKETS, len(SENTENCE_LABELS)))
        self.bias = np.zeros(len(SENTENCE_LABELS))
        for label in range(len(SENTENCE_LABELS)):
            inside, outside = _column_sums(has[labels == label]) + 1, _column_sums(has[labels != label]) + 1
            ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
            weights = (LEAST_RATIO + np.abs(ratio)) * rarity
            model = LogisticRegression(C=STRENGTH, max_iter=500, class_weight="balanced", tol=1e-3)
            model.fit(features.multiply(weights).tocsr(), labels == label)
            self.weights[:, label] = model.coef_[0] * weights
            self.bias[label] = model.intercept_[0]

    def logits(self, sentences: Sequence[str]) -> NDArray[np.float64]:
        """Return logits for normalized sentences, (num_sentences, 4)."""
        found: NDArray[np.float64] = matrix(sentences) @ self.weights + self.bias
        return found


def compose(rows: Sequence[LabelledSentence], rng: random.Random) -> list[tuple[int, list[str]]]:
    """Return composed answers: index of the stance, and the normalized sentences."""
    composed = []
    for language in LANGUAGES:
        pools = {
            letter: [row.text for row in rows if (row.language, row.label) == (language, label)]
            for letter, label in _LABEL.items()
        }
        for stance, recipe in RECIPES:
            for _ in range(PER_RECIPE):
                composed.append((STANCES.index(stance), [rng.choice(pools[letter]) for letter in recipe]))
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


def fit(answers: Sequence[BankAnswer], path: Path) -> None:
    """Train both models on some answers and on everything else of the tune part, and write them."""
    rows = labelled_sentences(answers)
    rng = random.Random(0)  # noqa: S311
    features, stances, right = [], [], 0
    for fold in range(FOLDS):
        model = SentenceModel([row for row in rows if fold_of(row.unit) != fold])
        held_out = [row for row in rows if fold_of(row.unit) == fold]
        found = model.logits([row.text for row in held_out]).argmax(axis=1)
        right += sum(found == [SENTENCE_LABELS.index(row.label) for row in held_out])
        written = [
            (STANCES.index(answer.stance), normalized_sentences(answer.text))
            for answer in answers
            if fold_of(answer.text) == fold
        ]
        framed = [
            (STANCES.index(_STANCE[row.label]), [row.text])
            for row in held_out
            if row.is_framed and row.label in _STANCE
        ]
        samples = (
            compose([row for row in held_out if not row.is_framed], rng) + written * COPIES + framed * FRAMED_COPIES
        )
        features.append(summarize_answers(model.logits, [sentences for _, sentences in samples]))
        stances.extend(stance for stance, _ in samples)
    print(f"sentences of other folds labelled right: {right / len(rows):.3f} of {len(rows)}")
    stacked = np.concatenate(features)
    second = LogisticRegression(C=ANSWER_STRENGTH, max_iter=5000).fit(stacked, stances)
    print(f"answers labelled right by the second model: {second.score(stacked, stances):.3f} of {len(stances)}")
    bias = caution(second, stacked[np.array(stances) == STANCES.index("answers")])
    write(SentenceModel(rows), second.coef_.T, bias, path)


def write(first: SentenceModel, weights: NDArray[np.float64], bias: NDArray[np.float64], path: Path) -> None:
    """Write both models, the first with a byte for each weight."""
    scales = (np.abs(first.weights).max(axis=0) / 127).astype(np.float32)
    tensors = {
        "sentence.weights": np.ascontiguousarray(np.round(first.weights / scales).astype(np.int8)),
        "sentence.scales": scales,
        "sentence.bias": first.bias,
        "answer.weights": np.ascontiguousarray(weights),
        "answer.bias": bias,
    }
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path)


def cross_validate() -> None:
    """Print how well answers of each author's style are read by a classifier that saw none of that style."""
    answers = load_answers("tune")
    for style in dict.fromkeys(answer.style for answer in answers):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "stance.safetensors"
            fit([answer for answer in answers if answer.style != style], path)
            table(
                (f"style {style}: language", "AUC", *STANCE_RATES),
                stance_rows([answer for answer in answers if answer.style == style], NgramStanceClassifier(path)),
            )


def main() -> None:
    """Train on the whole tune part, or show how well that would work for new authors."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cross-validate", action="store_true", help="hold out each author's style in turn")
    if parser.parse_args().cross_validate:
        cross_validate()
    else:
        fit(load_answers("tune"), WEIGHTS)
        print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
