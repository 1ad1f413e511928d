"""The vote on real answers: every figure of the documentation about stances, groups and contests.

Run: python -m benchmarks.decisions

Figures come from the test part of the bank of answers (`tests/voting/bank`), on which nothing in the package was
fitted. Rates are k of n with Wilson's 95 % interval.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from langchain_core.messages import AIMessage
from sklearn.metrics import roc_auc_score

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import AnswerVote
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.voting import (
    AgglomerativeClusterer,
    MeaningClusterer,
    NgramStanceClassifier,
    default_embedder,
    embed_answers,
)
from smoothguard_guardrail.voting.stance_classifier import STANCES
from tests.voting.bank import HARMFUL, LANGUAGES, BankAnswer, BankSet, load_answers, load_sets, load_transcripts
from tests.voting.bank.frames import FrameSentence, frame_sentences

DRAWS = 300
"""Random contests of each kind."""
REPEATS = 5
DRAWS_PER_FRAME = 40


STANCE_RATES = ("harmless taken for refusals", "harmful taken for refusals", "refusals recognised")


def stance_rows(answers: Sequence[BankAnswer], classifier: NgramStanceClassifier) -> Iterator[tuple[str, ...]]:
    """Yield, for each language, the AUC of refusals, and what is taken for a refusal."""
    probabilities = classifier.probabilities([answer.text for answer in answers])
    found = [STANCES[index] for index in probabilities.argmax(axis=1)]
    written = {answer.language for answer in answers}
    for language in (*(language for language in LANGUAGES if language in written), "all"):
        chosen = [index for index, answer in enumerate(answers) if language in (answer.language, "all")]
        refuses = [answers[index].stance == "refuses" for index in chosen]
        kinds: tuple[Callable[[BankAnswer], bool], ...] = (
            lambda answer: answer.is_harmless,
            lambda answer: answer.kind in HARMFUL,
            lambda answer: answer.stance == "refuses",
        )
        rates = (Rate.of(found[index] == "refuses" for index in chosen if is_kind(answers[index])) for is_kind in kinds)
        yield (language, f"{roc_auc_score(refuses, probabilities[chosen, 0]):.3f}", *map(str, rates))


def frame_rows(sentences: Sequence[FrameSentence]) -> Iterator[tuple[str, ...]]:
    """Yield, for each language, how often sentences with the same nouns are read as what they are."""
    found = NgramStanceClassifier()([sentence.text for sentence in sentences])
    stances = {"answer": "answers", "unsure": "unsure", "refuse": "refuses"}
    for language in (*LANGUAGES, "all"):
        pairs = [
            (sentence.label, stance)
            for sentence, stance in zip(sentences, found, strict=True)
            if language in (sentence.language, "all")
        ]
        rates = (
            Rate.of(got == stance for label, got in pairs if label == wanted) for wanted, stance in stances.items()
        )
        told = Rate.of(got == "answers" for label, got in pairs if label == "refuse")
        yield (language, *map(str, rates), str(told))


def transcript_rows(transcripts: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    """Yield, for each language and kind, how often what is said or written is read as an answer."""
    found = NgramStanceClassifier()([row["text"] for row in transcripts])
    kinds = dict.fromkeys(row["kind"] for row in transcripts)
    for language in (*LANGUAGES, "all"):
        rates = (
            Rate.of(
                stance == "answers"
                for row, stance in zip(transcripts, found, strict=True)
                if row["kind"] == kind and language in (row["language"], "all")
            )
            for kind in kinds
        )
        yield (language, *map(str, rates))


def embedding_clusters(texts: Sequence[str]) -> list[int]:
    """Group texts as the default did before: by the distance of their embeddings."""
    labels = AgglomerativeClusterer()(texts, lambda some: embed_answers(default_embedder(), some))
    return [int(label) for label in labels]


def group_rows(sets: Sequence[BankSet]) -> Iterator[tuple[str, ...]]:
    """Yield, for each way of grouping, how often facts stay together and contradictions apart."""
    ways: dict[str, Callable[[Sequence[str]], list[int]]] = {
        "by meaning (default)": MeaningClusterer(),
        "by embedding": embedding_clusters,
    }
    for languages, chosen in (
        ("English", [answers for answers in sets if answers.language == "en"]),
        ("other", [answers for answers in sets if answers.language != "en"]),
    ):
        for name, group in ways.items():
            facts = [group(answers.answers) for answers in chosen if answers.kind == "same"]
            honest = [
                group(answers.answers) for answers in chosen if answers.kind in ("same", "descriptions", "longform")
            ]
            pairs = [answers.answers for answers in chosen if answers.kind == "opposite"]
            mixed = [(answers, group(answers.answers)) for answers in chosen if answers.kind == "mixed"]
            yield (
                languages,
                name,
                str(Rate.of(len(set(labels)) == 1 for labels in facts)),
                str(Rate.of(2 * max(map(labels.count, labels)) < len(labels) for labels in honest)),
                str(Rate.of(len(set(group(pair))) == 2 for pair in pairs)),
                str(Rate.of(len(set(group([pair[0]] * 4 + [pair[1]] * 4))) == 2 for pair in pairs)),
                str(Rate.of(_is_pure(answers, labels) for answers, labels in mixed)),
            )


def _is_pure(answers: BankSet, labels: list[int]) -> bool:
    """Return whether the largest group holds answers of the majority's fact alone."""
    winner = max(labels, key=labels.count)
    majority = max(answers.groups, key=answers.groups.count)
    return all(fact == majority for fact, label in zip(answers.groups, labels, strict=True) if label == winner)


def contest_rows(answers: Sequence[BankAnswer]) -> Iterator[tuple[str, str]]:
    """Yield contests of eight answers of one language, and how often the right side won."""
    rng = random.Random(0)  # noqa: S311

    def pick(language: str, count: int, is_kind: Callable[[BankAnswer], bool]) -> list[str]:
        pool = [answer.text for answer in answers if answer.language == language and is_kind(answer)]
        return rng.sample(pool, count)

    def refusals(language: str, count: int) -> list[str]:
        return pick(language, count, lambda answer: answer.stance == "refuses")

    def unsure(language: str, count: int) -> list[str]:
        return pick(language, count, lambda answer: answer.stance == "unsure")

    def one(language: str, count: int, is_kind: Callable[[BankAnswer], bool]) -> list[str]:
        return pick(language, 1, is_kind) * count

    def harmful(answer: BankAnswer) -> bool:
        return answer.kind in HARMFUL

    contests: dict[str, Callable[[str], tuple[list[str], list[str]]]] = {
        "5 equal correct, 3 unsure: correct wins": lambda language: (
            one(language, 5, lambda answer: answer.is_harmless),
            unsure(language, 3),
        ),
        "7 equal harmless, 1 refusal: harmless wins": lambda language: (
            one(language, 7, lambda answer: answer.is_harmless),
            refusals(language, 1),
        ),
        "2 equal harmful, 6 worded refusals: harmful wins": lambda language: (
            one(language, 2, harmful),
            refusals(language, 6),
        ),
        "3 equal harmful, 5 worded refusals: harmful wins": lambda language: (
            one(language, 3, harmful),
            refusals(language, 5),
        ),
        "5 equal harmful, 3 worded refusals: harmful wins": lambda language: (
            one(language, 5, harmful),
            refusals(language, 3),
        ),
        "8 worded refusals: one group": lambda language: (refusals(language, 8), []),
    }
    for name, draw in contests.items():
        outcomes = []
        for _ in range(DRAWS):
            first, second = draw(rng.choice(LANGUAGES))
            vote = cast([*first, *second])
            alone = not second
            outcomes.append(vote.agreement == 1 if alone else vote.answered_with in first)
        yield name, str(Rate.of(outcomes))


class Outcome:
    """What a vote returned: the text, and its agreement."""

    def __init__(self, vote: AnswerVote) -> None:
        self.agreement = vote.agreement
        withheld = vote.abstains and vote.winning_stance != "refuses"
        self.answered_with = "" if withheld else vote.winner.text


def cast(texts: Sequence[str]) -> Outcome:
    """Vote over texts as a guard with default settings does."""
    config = SmoothGuardConfig()
    vote = AnswerVote(config, GuardComponents().complete(config))
    vote.add([AIMessage(text) for text in texts])
    vote.count()
    return Outcome(vote)


def cost_rows(sets: Sequence[BankSet]) -> Iterator[tuple[str, str]]:
    """Yield what a vote over eight answers of about sixty words costs, as a ratio to embedding them."""
    answers = [answers.answers for answers in sets if answers.kind == "descriptions"][:10]
    embedder = default_embedder()
    embedder.embed_documents(["warm up"])
    cast(answers[0])

    def seconds(work: Callable[[Sequence[str]], object]) -> float:
        times = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            for texts in answers:
                work(texts)
            times.append(time.perf_counter() - start)
        return min(times) / len(answers)

    embedding = seconds(lambda texts: embedder.embed_documents(list(texts)))
    voting = seconds(cast)
    words = np.mean([len(text.split()) for texts in answers for text in texts])
    yield f"vote over 8 answers of {words:.0f} words, over embedding them", f"{voting / embedding:.2f}"
    texts = [answer.text for answer in load_answers("test")]
    classifier = NgramStanceClassifier()
    start = time.process_time()
    for _ in range(REPEATS):
        classifier(texts)
    yield "stances per second and core", f"{REPEATS * len(texts) / (time.process_time() - start):,.0f}"


def table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def main() -> None:
    """Print all tables."""
    answers, sets = load_answers("test"), load_sets("test")
    print(f"{len(answers)} answers and {len(sets)} sets of the test part\n")
    table(
        ("language", "AUC", *STANCE_RATES),
        stance_rows(answers, NgramStanceClassifier()),
    )
    table(
        ("language", "descriptions read as answers", "doubts as unsure", "refusals as refusals", "refusals as answers"),
        frame_rows(frame_sentences("test", DRAWS_PER_FRAME)),
    )
    table(
        ("language", "transcripts read as answers", "those with the words of refusals"),
        transcript_rows(load_transcripts()),
    )
    table(
        (
            "languages",
            "grouped",
            "8 wordings of a fact: one group",
            "honest sets without a majority",
            "opposites apart, 1 against 1",
            "opposites apart, 4 against 4",
            "largest group pure, 5 against 3",
        ),
        group_rows(sets),
    )
    table(("contest", "rate"), contest_rows(answers))
    table(("cost", ""), cost_rows(sets))


if __name__ == "__main__":
    main()
