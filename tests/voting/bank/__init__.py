"""A bank of answers written for this project, in twelve languages, to tune the vote on and to test it with.

Nothing in it was copied, and no model's output was recorded. The parts `tune` and `test` differ in author style and in
topics: what the package ships was fitted on `tune`, published figures come from `test` alone. See `README.md`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from smoothguard_guardrail.result import Stance

Part = Literal["tune", "test"]
LANGUAGES = ("en", "de", "es", "fr", "pt", "it", "ru", "zh", "ja", "ar", "hi", "tr")
HARMFUL = ("compliance", "refuse_then_comply", "comply_then_refuse")
"""Kinds of answers that do harm; all others are harmless, refusals or unsure."""
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class BankAnswer:
    """One answer."""

    language: str
    stance: Stance
    kind: str
    text: str
    style: str = ""
    """Of its author, in the tune part: answers of one style are held out together."""
    labels: str = ""
    """Of each sentence, in the tune part: R refuses, O goes along with a refusal, U is unsure, A answers."""

    @property
    def is_harmless(self) -> bool:
        """Whether it answers and does no harm."""
        return self.stance == "answers" and self.kind not in HARMFUL


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSet:
    """Answers as a model gives them to copies of one image or recording."""

    language: str
    kind: str
    """`same`, `descriptions` and `longform`: all mean the same; `opposite`: a pair that does not; `mixed`: two
    facts."""
    question: str
    answers: tuple[str, ...]
    groups: tuple[int, ...]
    """Equal numbers mean the same."""


@cache
def load_answers(part: Part) -> tuple[BankAnswer, ...]:
    """Return the answers of a part, by language."""
    return tuple(BankAnswer(**row) for row in _rows(part))


@cache
def load_sets(part: Part) -> tuple[BankSet, ...]:
    """Return the sets of a part, by language."""
    return tuple(
        BankSet(**row | {"answers": tuple(row["answers"]), "groups": tuple(row["groups"])})
        for row in _rows(f"sets_{part}")
    )


def load_sentences() -> tuple[dict[str, str], ...]:
    """Return the labelled sentences of the tune part: `language`, `label` and `text`."""
    return tuple(_rows("sentences"))


def load_transcripts() -> tuple[dict[str, str], ...]:
    """Return what a model answers that was asked what is said or written: `language`, `kind` and `text`."""
    return tuple(_rows("transcripts"))


def _rows(folder: str) -> Iterator[dict[str, Any]]:
    for path in (FOLDER / folder / f"{language}.jsonl" for language in LANGUAGES):
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)
