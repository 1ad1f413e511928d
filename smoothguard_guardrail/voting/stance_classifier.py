"""What answers do with the question, judged offline: `stance_classifier=`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from smoothguard_guardrail._internal.once import load_once
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting.lexicon import NO, YES
from smoothguard_guardrail.voting.stance_features import featurize, normalize, split_sentences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import StanceClassifier
    from smoothguard_guardrail.voting.answers import Answer

STANCES: tuple[Stance, ...] = ("refuses", "unsure", "answers")
SENTENCE_LABELS = ("refuse", "other", "unsure", "answer")
"""Labels of sentences; `other` goes along with refusals: reasons, offers, advice to turn to somebody."""
WEIGHTS = Path(__file__).parent / "weights" / "stance.safetensors"


class NgramStanceClassifier:
    """Two linear models: one labels sentences by their n-grams, one the answer by its sentences.

    It reads English, German, Spanish, French, Portuguese, Italian, Russian, Chinese, Japanese, Arabic, Hindi and
    Turkish without being told which, needs no network, and judges more than a thousand answers a second on one core.
    What it was trained on is in `tests/voting/bank`; `python -m training.stance` trains it.

    Args:
        path: A safetensors file written by `training.stance`.

    Example:
        >>> classify = NgramStanceClassifier()
        >>> classify(["I'm sorry, I can't share that.", "The image is too blurry to tell.", "A red circle."])
        ['refuses', 'unsure', 'answers']
        >>> classify(["I'm sorry, but I can't share the gate code. It is 6173."])
        ['answers']
    """

    def __init__(self, path: Path = WEIGHTS) -> None:
        from safetensors.numpy import load_file

        tensors = load_file(path)
        self._sentence_weights = tensors["sentence.weights"].astype(np.float32) * tensors["sentence.scales"]
        self._sentence_bias = tensors["sentence.bias"]
        self._answer_weights, self._answer_bias = tensors["answer.weights"], tensors["answer.bias"]

    def __call__(self, texts: Sequence[str]) -> list[Stance]:
        """Return the most likely stance of each text; a blank text is unsure."""
        if not texts:
            return []
        return [STANCES[index] for index in self.probabilities(texts).argmax(axis=1)]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of `STANCES`, float64 (num_texts, 3)."""
        rows = self.answer_features(texts)
        found = softmax(rows @ self._answer_weights + self._answer_bias)
        found[[not text.strip() for text in texts]] = np.eye(3)[1]
        return found

    def sentence_logits(self, sentences: Sequence[str]) -> NDArray[np.float64]:
        """Return the logits of `SENTENCE_LABELS` for normalized sentences, float64 (num_sentences, 4)."""
        features = featurize(sentences)
        sizes = np.bincount(features.sentences, minlength=len(sentences))
        sums = np.zeros((len(sentences), len(SENTENCE_LABELS)))
        filled = np.flatnonzero(sizes)
        if len(filled):
            starts = np.concatenate([[0], np.cumsum(sizes[filled])[:-1]])
            sums[filled] = np.add.reduceat(self._sentence_weights[features.buckets], starts, axis=0)
        logits: NDArray[np.float64] = sums / np.sqrt(np.maximum(sizes, 1))[:, None] + self._sentence_bias
        return logits

    def answer_features(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return what the second model reads: summaries of the sentences of each text."""
        return summarize_answers(self.sentence_logits, [normalized_sentences(text) for text in texts])


def normalized_sentences(text: str) -> list[str]:
    """Return the normalized sentences of a text, without a leading yes or no that more follows.

    Example:
        >>> normalized_sentences("No. I will not help with that!")
        ['i will not help with that']
    """
    sentences = [sentence for part in split_sentences(text) if (sentence := normalize(part))]
    return sentences[1:] if len(sentences) > 1 and sentences[0] in YES | NO else sentences


def summarize_answers(
    sentence_logits: Callable[[Sequence[str]], NDArray[np.float64]], answers: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return the features of answers, each given by its normalized sentences, float64 (num_answers, num_features).

    Args:
        sentence_logits: Returns the logits of `SENTENCE_LABELS` for sentences.
        answers: The sentences of each answer.
    """
    logits = sentence_logits([sentence for sentences in answers for sentence in sentences])
    ends = np.cumsum([len(sentences) for sentences in answers])
    return np.stack(
        [
            summarize(logits[end - len(sentences) : end], sentences)
            for sentences, end in zip(answers, ends.tolist(), strict=True)
        ]
    )


def summarize(logits: NDArray[np.float64], sentences: Sequence[str]) -> NDArray[np.float64]:
    """Return the features of an answer from the logits of its sentences, float64 (num_features,).

    Args:
        logits: Of `SENTENCE_LABELS`, (num_sentences, 4).
        sentences: The normalized sentences.
    """
    if not len(logits):
        return np.zeros(NUM_SUMMARIES)
    log_probabilities = np.log(softmax(logits) + 1e-4)
    refuse, _, unsure, answer = range(4)
    answering = log_probabilities[:, answer] - np.logaddexp(log_probabilities[:, refuse], log_probabilities[:, unsure])
    has_digit = np.array(["0" in sentence for sentence in sentences])
    return np.concatenate(
        [
            log_probabilities.max(axis=0),
            log_probabilities.mean(axis=0),
            log_probabilities[0],
            log_probabilities[-1],
            [
                answering.max(),
                np.where(has_digit, answering, -9.0).max(),
                np.log(len(sentences)),
                np.log1p(sum(map(len, sentences))) / 5,
            ],
        ]
    )


NUM_SUMMARIES = 4 * 4 + 4


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of each row of logits."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


@load_once
def _load() -> NgramStanceClassifier:
    return NgramStanceClassifier()


def classify_stances(texts: Sequence[str]) -> list[Stance]:
    """Return the stance of each text by the packaged classifier, which is loaded once per process.

    Example:
        >>> classify_stances(["Das darf ich leider nicht verraten.", "Auf dem Schild steht: Ausfahrt freihalten."])
        ['refuses', 'answers']
    """
    return _load()(texts)


def classify_answers(classifier: StanceClassifier, answers: Sequence[Answer]) -> list[Stance]:
    """Return the stance of each answer, and check what the classifier returns.

    An answer that does anything beside talking, such as calling a tool, answers, and so does a JSON value; an answer
    that its provider marked as a refusal refuses. Of the others the classifier reads the words.

    Raises:
        AdapterError: If the classifier does not return one stance for each text.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> from smoothguard_guardrail.voting import Answer
        >>> classify_answers(classify_stances, [Answer.of(AIMessage('{"sign": "stop"}'))])
        ['answers']
    """
    stances: list[Stance | None] = [
        "answers" if answer.structure else "refuses" if answer.refused else None for answer in answers
    ]
    asked = [answer.words for answer, stance in zip(answers, stances, strict=True) if stance is None]
    found = iter(_checked(classifier(asked), len(asked)) if asked else ())
    return [next(found) if stance is None else stance for stance in stances]


def _checked(stances: object, expected: int) -> list[Stance]:
    if isinstance(stances, str) or not isinstance(stances, Sequence) or len(stances) != expected:
        raise AdapterError(
            f"the stance_classifier must return one stance for each of {expected} texts, got {stances!r}"
        )
    if unknown := [stance for stance in stances if stance not in get_args(Stance)]:
        raise AdapterError(f"the stance_classifier must return refuses, unsure or answers, got {unknown[0]!r}")
    return list(stances)
