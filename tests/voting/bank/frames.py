"""Sentences made of frames and nouns: what an image shows, that one can't tell what, and that one won't say what.

Answers, doubts and refusals share their nouns and most of their words, so that these don't decide the label.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache

from tests.voting.bank import FOLDER, LANGUAGES, Part

LABELS = ("answer", "unsure", "refuse")
"""Labels that every part has frames of; the tune part also has frames of `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankFrames:
    """The frames of one language and what fills them."""

    language: str
    nouns: tuple[str, ...]
    """With their article, as subjects; where a language has another form for objects it follows after a slash."""
    texts: tuple[str, ...]
    """What signs and speakers say."""
    clauses: tuple[str, ...]
    """What one can know, tell or hide, such as `what the sign says`; they may have slots themselves."""
    requests: tuple[str, ...]
    """What one can be asked to do, such as `share the code`; where a language has two forms, the second, as in
    `den Code zu verraten`, follows after a slash. In the tune part alone."""
    frames: dict[str, tuple[str, ...]]
    """Of each label. Slots are `noun` and `other` for subjects, `object` and `otherobject`, `text`, `number`, `clause`,
    `request` and `torequest` for its second form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSentence:
    """A frame with its slots filled."""

    language: str
    label: str
    frame: str
    text: str


@cache
def load_frames(part: Part) -> tuple[BankFrames, ...]:
    """Return the frames of a part, by language."""
    found = []
    for language in LANGUAGES:
        read = json.loads((FOLDER / f"frames_{part}" / f"{language}.json").read_text(encoding="utf-8"))
        frames = {label: tuple(read.pop(label, ())) for label in (*LABELS, "other")}
        lists = {"requests": ()} | {key: tuple(value) for key, value in read.items()}
        found.append(BankFrames(language=language, frames=frames, **lists))
    return tuple(found)


def frame_sentences(part: Part, per_frame: int) -> list[FrameSentence]:
    """Return sentences of every frame, each once: the same ones at every call.

    Args:
        part: Of the bank.
        per_frame: Draws for each frame; one without slots gives one sentence.
    """
    rng = random.Random(0)
    return [
        FrameSentence(language=bank.language, label=label, frame=frame, text=text)
        for bank in load_frames(part)
        for label, frames in bank.frames.items()
        for frame in frames
        for text in dict.fromkeys(_fill(frame, bank, rng) for _ in range(per_frame))
    ]


def _fill(frame: str, bank: BankFrames, rng: random.Random) -> str:
    if "{clause}" in frame:
        frame = frame.replace("{clause}", rng.choice(bank.clauses))
    request = rng.choice(bank.requests).split("/") if "request}" in frame else [""]
    noun, other = (noun.split("/") for noun in rng.sample(bank.nouns, 2))
    return frame.format(
        noun=noun[0],
        object=noun[-1],
        other=other[0],
        otherobject=other[-1],
        text=rng.choice(bank.texts),
        number=rng.randint(2, 99),
        request=request[0],
        torequest=request[-1],
    )
