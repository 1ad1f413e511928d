"""The bank of answers, and the vote on its test part."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.decisions import cast, contest_rows
from smoothguard_guardrail.voting import MeaningClusterer, NgramStanceClassifier
from tests.voting.bank import LANGUAGES, load_answers, load_sentences, load_sets, load_transcripts

TEST, TUNE = load_answers("test"), load_answers("tune")


def test_the_bank_has_every_language_and_nothing_twice() -> None:
    texts = [answer.text for answer in (*TEST, *TUNE)] + [row["text"] for row in load_sentences()]
    assert len(texts) >= 1200
    for languages in ({answer.language for answer in TEST}, {row["language"] for row in load_sentences()}):
        assert languages == set(LANGUAGES)
    assert min(Counter(answer.language for answer in TEST).values()) >= 50


def test_the_parts_share_no_text() -> None:
    fitted = {row["text"].casefold() for row in load_sentences()} | {answer.text.casefold() for answer in TUNE}
    shared = {answer.text.casefold() for answer in TEST} & fitted
    assert all(len(text) <= 12 for text in shared), shared  # such as Yes and No
    sets = [{" ".join(answers.answers).casefold() for answers in load_sets(part)} for part in ("tune", "test")]
    assert len(sets[0] & sets[1]) <= len(LANGUAGES)


def test_refusals_stand_out_in_every_language() -> None:
    classifier = NgramStanceClassifier()
    for language in LANGUAGES:
        answers = [answer for answer in TEST if answer.language == language]
        refuses = classifier.probabilities([answer.text for answer in answers])[:, 0]
        assert roc_auc_score([answer.stance == "refuses" for answer in answers], refuses) > 0.965, language
    harmless = [answer.text for answer in TEST if answer.is_harmless]
    assert classifier(harmless).count("refuses") <= 0.01 * len(harmless)
    refusals = [answer.text for answer in TEST if answer.stance == "refuses"]
    assert classifier(refusals).count("refuses") >= 0.78 * len(refusals)


def test_what_is_said_or_written_is_mostly_read_as_an_answer() -> None:
    for kind, least in (("everyday", 0.87), ("words of refusals", 0.75)):
        texts = [row["text"] for row in load_transcripts() if row["kind"] == kind]
        assert NgramStanceClassifier()(texts).count("answers") >= least * len(texts), kind


def test_what_is_told_after_many_refusals_is_no_refusal() -> None:
    told = []
    for language in LANGUAGES:
        answers = [answer for answer in TEST if answer.language == language]
        refusals = " ".join([answer.text for answer in answers if answer.kind == "refusal"][:10])
        told += [f"{refusals} {answer.text}" for answer in answers if answer.kind == "compliance"]
    assert NgramStanceClassifier()(told).count("refuses") <= 0.2 * len(told)


def test_opposites_stay_apart_and_facts_together() -> None:
    group = MeaningClusterer()
    pairs = [answers.answers for answers in load_sets("test") if answers.kind == "opposite"]
    assert sum(len(set(group([pair[0]] * 4 + [pair[1]] * 4))) == 2 for pair in pairs) >= 0.99 * len(pairs)
    facts = [group(answers.answers) for answers in load_sets("test") if answers.kind == "same"]
    assert sum(len(set(labels)) == 1 for labels in facts) >= 0.88 * len(facts)
    assert all(2 * max(map(labels.count, labels)) >= len(labels) for labels in facts)


def test_one_answer_with_another_fact_stays_alone() -> None:
    group = MeaningClusterer()
    joined = []
    for answers in (answers for answers in load_sets("test") if answers.kind == "mixed"):
        majority = max(answers.groups, key=answers.groups.count)
        pairs = list(zip(answers.answers, answers.groups, strict=True))
        wordings = [answer for answer, fact in pairs if fact == majority]
        for other in (answer for answer, fact in pairs if fact != majority):
            *labels, label = group([*wordings, other])
            joined.append(label in labels)
    assert sum(joined) <= 0.15 * len(joined)


@pytest.mark.slow
def test_two_answers_alone_are_compared_as_well_as_eight() -> None:
    group = MeaningClusterer()
    pairs = [
        (one == other, len(set(group([first, second]))) == 1)
        for answers in load_sets("test")
        if answers.kind in ("same", "mixed")
        for told in [zip(answers.answers, answers.groups, strict=True)]
        for (first, one), (second, other) in list(combinations(told, 2))[::3]
    ]
    for is_same, low, high in ((True, 0.45, 1.0), (False, 0.0, 0.05)):
        joined = [found for same, found in pairs if same == is_same]
        assert low * len(joined) <= sum(joined) <= high * len(joined)


@pytest.mark.slow
def test_contests_go_to_the_right_side() -> None:
    rates = dict(contest_rows(TEST))
    assert rates["5 equal correct, 3 unsure: correct wins"].startswith("300/300")
    assert int(rates["2 equal harmful, 6 worded refusals: harmful wins"].partition("/")[0]) <= 1
    assert int(rates["7 equal harmless, 1 refusal: harmless wins"].partition("/")[0]) >= 290


def test_noise_does_not_outvote_what_was_read() -> None:
    number, blurry = "The invoice number is 4711.", "The image is too blurry to read."
    assert cast([number] * 5 + [blurry] * 3).answered_with == number
    assert cast([blurry] * 5 + [number] * 3).answered_with == blurry
    assert cast(["It was approved."] * 4 + ["It was rejected."] * 4).answered_with == ""
