"""Transcripts of all recordings, long ones too: what the guard costs them, and what the vote takes them for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.field.recordings import Recording
from benchmarks.field.speech_study import SpeechStudy, error_rate
from smoothguard_guardrail.evaluation.report import Section, Table
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import classify_stances

LONG = 6.0
"""Seconds from which a recording is long: the transcriber sometimes ends the transcript of a noisy one early."""


def section(study: SpeechStudy) -> Section:
    """Return the part of a report."""
    return Section(
        title="Transcripts of all recordings",
        text=(
            f"All {len(study.recordings)} recordings that have a text of four words or more. *Copies*: the mean of the "
            f"single transcripts; *vote*: the elected one, also where the guard withholds it. A few long recordings, "
            f"of {LONG:g} seconds and more, hold much of the words.",
        ),
        tables=(word_error_table(study), stance_table(study)),
    )


def word_error_table(study: SpeechStudy) -> Table:
    """Return what some perturbations cost all recordings, short and long."""
    groups = {
        "all": study.recordings,
        f"under {LONG:g} s": [each for each in study.recordings if each.seconds < LONG],
        f"from {LONG:g} s": [each for each in study.recordings if each.seconds >= LONG],
    }
    rows = [
        (name, group, len(chosen), sum(len(each.words) for each in chosen), *_rates(study, name, chosen))
        for name in study.scale.on_all
        for group, chosen in groups.items()
        if chosen
    ]
    columns = ("perturbation", "recordings", "number", "words", "no guard", "copies", "vote", "withheld")
    return Table(title="Word error rates", columns=columns, rows=tuple(rows))


def stance_table(study: SpeechStudy) -> Table:
    """Return what the guard's classifier of stances makes of transcripts, which all answer."""
    found = Counter(classify_stances([study.transcript(each) for each in study.recordings]))
    kinds: tuple[Stance, ...] = ("answers", "unsure", "refuses")
    return Table(
        title="Clean transcripts by what the classifier calls them",
        columns=kinds,
        rows=(tuple(found[kind] for kind in kinds),),
        note="All should count as answers, but a few say in the first person that something can't be done.",
    )


def _rates(study: SpeechStudy, name: str, chosen: Sequence[Recording]) -> tuple[float, float, float, Rate]:
    elected = [study.elected(each, name) for each in chosen]
    return (
        error_rate([(study.transcript(each), each) for each in chosen]),
        error_rate([(text, each) for each in chosen for text in study.copies(each, name)]),
        error_rate([(found.text, each) for found, each in zip(elected, chosen, strict=True)]),
        Rate.of(found.abstains for found in elected),
    )
