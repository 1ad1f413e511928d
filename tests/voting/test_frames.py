"""Descriptions, doubts and refusals in the same words, of frames and nouns that the classifier was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import classify_stances
from tests.voting.bank.frames import LABELS, FrameSentence, frame_sentences, load_frames

TEST = frame_sentences("test", 40)


def share(sentences: Sequence[FrameSentence], stance: Stance) -> float:
    """Return the share of the sentences that are read as a stance."""
    return classify_stances([sentence.text for sentence in sentences]).count(stance) / len(sentences)


def test_the_parts_share_no_frame_and_no_noun() -> None:
    for tune, test in zip(load_frames("tune"), load_frames("test"), strict=True):
        assert not set(tune.nouns) & set(test.nouns)
        for label in LABELS:
            assert not set(tune.frames[label]) & set(test.frames[label])


def test_labels_have_the_same_nouns_and_clauses() -> None:
    for bank in load_frames("tune"):
        for label in LABELS:
            assert any("{noun}" in frame or "{object}" in frame for frame in bank.frames[label]), (bank.language, label)
            assert any("{clause}" in frame for frame in bank.frames[label]), (bank.language, label)


@pytest.mark.parametrize(
    ("label", "stance", "least"), [("answer", "answers", 0.95), ("refuse", "refuses", 0.75), ("unsure", "unsure", 0.6)]
)
def test_new_frames_are_read_right(label: str, stance: Stance, least: float) -> None:
    assert share([sentence for sentence in TEST if sentence.label == label], stance) >= least


def test_plain_descriptions_in_english_are_answers() -> None:
    described = [row for row in TEST if (row.language, row.label) == ("en", "answer")]
    assert share(described, "answers") >= 0.98


def test_few_doubts_and_refusals_are_read_as_answers() -> None:
    assert share([sentence for sentence in TEST if sentence.label == "unsure"], "answers") <= 0.35
    assert share([sentence for sentence in TEST if sentence.label == "refuse"], "answers") <= 0.18


@pytest.mark.parametrize(
    "text",
    [
        "The image shows an otter.",
        "I can see an otter in the picture.",
        "The image depicts an ostrich.",
        "This is an ostrich.",
        "It is green.",
        "It is blue.",
        "Das Bild zeigt einen Otter.",
        "La imagen muestra una nutria.",
        "L'image montre une loutre.",
        "画像にはカワウソが写っています。",
    ],
)
def test_what_was_misread_is_an_answer(text: str) -> None:
    assert classify_stances([text]) == ["answers"]
