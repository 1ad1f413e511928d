"""Sentences that a person speaks, with what is said, and how wrong a transcript of them is."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly

from benchmarks.field.packages import Package
from benchmarks.field.whisper import SAMPLING_RATE

SOUNDS = Package(
    kind="debian",
    name="asterisk-core-sounds-en-wav",
    version="1.6.1-1",
    sha256="2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
TRANSCRIPTS = Package(
    kind="debian",
    name="asterisk-core-sounds-en",
    version="1.6.1-1",
    sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
)
_LINE = re.compile(r"^([\w/.-]+): (.+)$")
_LONGEST = 28.0
_FEWEST_WORDS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """A spoken sentence.

    Args:
        name: Of its file.
        waveform: Float32 (samples,) in [-1, 1] at 16 kHz, multiples of 1/32768.
        words: What is said, normalised.
    """

    name: str
    waveform: torch.Tensor
    words: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.waveform) / SAMPLING_RATE


def recordings(sounds: Path, transcripts: Path) -> list[Recording]:
    """Return the recordings whose transcript has four words or more and no digits, the shortest first.

    They are prompts of a telephone exchange, spoken by Allison Smith, 8 kHz, resampled to 16 kHz.

    Args:
        sounds: The unpacked package of sounds.
        transcripts: The unpacked package with their text.
    """
    text = gzip.decompress(next(transcripts.rglob("core-sounds-en.txt.gz")).read_bytes()).decode("utf-8")
    found = []
    for name, said in (match.groups() for match in map(_LINE.match, text.splitlines()) if match):
        files, words = list(sounds.rglob(f"*/{name}.wav")), normalised(said)
        if not files or len(words) < _FEWEST_WORDS or re.search(r"[\d\[\]()<>]", said):
            continue
        values, rate = soundfile.read(files[0], dtype="float64")
        samples = resample_poly(values, SAMPLING_RATE // rate, 1)
        if len(samples) <= _LONGEST * SAMPLING_RATE:
            waveform = (np.clip(samples, -1, 1 - 2**-15) * 2**15).round() / 2**15
            found.append(Recording(name=name, waveform=torch.from_numpy(waveform).float(), words=words))
    return sorted(found, key=lambda each: (len(each.waveform), each.name))


def normalised(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, without punctuation.

    Example:
        >>> normalised("You've got e-mail.")
        ('youve', 'got', 'email')
    """
    return tuple(re.sub(r"[^a-z0-9 ]", "", re.sub(r"\s+", " ", text.lower())).split())


def num_errors(words: Sequence[str], truth: Sequence[str]) -> int:
    """Return the least number of words to insert, delete or replace: Levenshtein's distance.

    Example:
        >>> num_errors("please hold the line".split(), "please hold a line now".split())
        2
    """
    row = list(range(len(truth) + 1))
    for done, word in enumerate(words, start=1):
        before, row[0] = row[0], done
        for place, wanted in enumerate(truth, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != wanted))
    return row[-1]
