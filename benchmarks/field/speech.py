"""What the guard's noise on audio costs a real transcriber of speech, and which attacks on it it stops.

Run: python -m benchmarks.field.speech --cache FOLDER. The transcriber is Whisper tiny.en, which follows no
instruction: an attack makes it write another sentence. The recordings are telephone prompts of one speaker, 8 kHz.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.detection import roc_area
from benchmarks.field.packages import add_cache_option, fetch_all
from benchmarks.field.recordings import SOUNDS, TRANSCRIPTS
from benchmarks.field.speech_attacks import Attacked
from benchmarks.field.speech_scales import DEFAULT, SCALES
from benchmarks.field.speech_study import NUM_COPIES, SpeechStudy, error_rate, is_away, is_hit
from benchmarks.field.transcriber import TranscribingChatModel, question
from benchmarks.field.whisper import PACKAGE
from smoothguard_guardrail import SmoothGuardChatModel, SmoothGuardConfig
from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table
from smoothguard_guardrail.evaluation.report.content import Cell
from smoothguard_guardrail.evaluation.report.formatting import cell_text
from smoothguard_guardrail.evaluation.statistics import Rate

CALLS = (2, 3, 5, 8)
"""Calls, the clean one included, for which the suspicion is stored."""
KINDS = ("clean", "plain", "adaptive")


def sections(study: SpeechStudy) -> tuple[Section, ...]:
    """Measure what is not stored yet, and return the part of a report; writes `suspicion.json` into the folder."""
    perturbations = perturbation_table(study)
    return (
        Section(
            title="A transcriber of speech",
            text=(
                "Whisper tiny.en writes down telephone prompts of one speaker, 8 kHz. It follows no instruction: an "
                "attack *succeeds* when the transcript is the sentence that the attacker chose, word for word. Every "
                "attack is white-box PGD on the waveform, bounded by the ratio of the recording's power to that of "
                "the change, and goes on after its first success. *Adaptive* attacks minimise the mean loss over "
                f"draws of the perturbation. The guard's answer is the default vote over {NUM_COPIES} copies.",
            ),
            tables=(attack_table(study), perturbations, suspicion_table(study), host_table(study)),
            curves=(noise_curve(perturbations),),
        ),
    )


def attack_table(study: SpeechStudy) -> Table:
    """Return how often attacks succeed without a guard, through the whole window of 30 s."""
    rows = []
    for budget in study.scale.budgets:
        found = study.plain(budget)
        texts = [study.transcript(each.recording) for each in found]
        rows.append(
            (
                f"{budget.snr_db:g} dB",
                budget.num_steps,
                _hits(texts, found),
                _aways(texts, found),
                sum(each.loss for each in found) / len(found),
                sum(each.seconds for each in found) / len(found),
            )
        )
    columns = ("ratio", "steps", "target written", "more than half of the words wrong", "mean loss", "seconds each")
    return Table(title="Attacks without a guard", columns=columns, rows=tuple(rows))


def perturbation_table(study: SpeechStudy) -> Table:
    """Return what each perturbation costs, and which attacks succeed in spite of the vote over it."""
    sentences, attacks = study.sentences, [study.plain(budget) for budget in study.scale.budgets]
    clean = error_rate([(study.transcript(each), each) for each in sentences])
    rows: list[tuple[Cell, ...]] = []
    bare = [_hits([study.transcript(each.recording) for each in found], found) for found in attacks]
    rows.append(("no guard", clean, clean, None, *bare, None, None, None))
    for name in study.scale.perturbations:
        single = error_rate([(text, each) for each in sentences for text in study.copies(each, name)])
        elected = [study.elected(each, name) for each in sentences]
        voted = error_rate([(each.text, truth) for each, truth in zip(elected, sentences, strict=True)])
        guarded = [_guarded(study, name, found) for found in attacks]
        adaptive: tuple[Cell, Cell] = (None, None)
        if name in study.scale.adaptive_to:
            found = study.adaptive(name)
            adaptive = (_guarded(study, name, found), _copies_hit(study, name, found))
        back = Rate.of(not is_away(study.elected(each.recording, name).text, each) for each in attacks[0])
        rows.append((name, single, voted, Rate.of(each.abstains for each in elected), *guarded, back, *adaptive))
    columns = (
        "perturbation",
        "word error rate, single copies",
        "vote",
        "abstained",
        *(f"attacked, {budget.snr_db:g} dB" for budget in study.scale.budgets),
        f"most words right, {study.scale.budgets[0].snr_db:g} dB",
        f"adaptive, {study.scale.adaptive.snr_db:g} dB",
        "its single copies",
    )
    return Table(
        title="Perturbations",
        columns=columns,
        rows=tuple(rows),
        note="The word error rate of the vote is that of the elected transcript, also where the guard abstains, for "
        "which it refuses by default. Attacked: the target is the guard's answer. Most words right: at least "
        "half of what is spoken is in the elected transcript of an attacked recording.",
    )


def noise_curve(table: Table) -> Curve:
    """Return the word error rate and the success of attacks by the strength of the noise."""
    wanted = [index for index, name in enumerate(table.columns) if name == "vote" or name.startswith(("att", "adapt"))]
    found: dict[str, list[Point]] = {table.columns[index]: [] for index in wanted}
    for row in table.rows:
        strength = re.fullmatch(r"noise, (\d+) dB", str(row[0]))
        for index in wanted if strength else ():
            value = row[index]
            if strength and isinstance(value, (Rate, float)):
                found[table.columns[index]].append(Point(x=float(strength[1]), y=value))
    renamed = {"vote": "word error rate of the vote"}
    return Curve(
        title="Noise",
        x_label="signal-to-noise ratio of the guard's noise, dB",
        y_label="share",
        series=tuple(
            Series(name=renamed.get(name, name), points=tuple(sorted(points, key=lambda point: point.x)))
            for name, points in found.items()
            if points
        ),
    )


def host_table(study: SpeechStudy) -> Table:
    """Return what `SmoothGuardChatModel` answers about attacked recordings, sent as a user would send them."""
    found = study.plain(study.scale.budgets[0])[:2]
    model = TranscribingChatModel(whisper=study.whisper)
    guarded = SmoothGuardChatModel(model, SmoothGuardConfig(seed=0, max_concurrency=1))
    rows = [
        (
            each.recording.name,
            " ".join(each.recording.words),
            str(host.invoke([question(each.recording.waveform)]).text),
            kind,
        )
        for each in found
        for kind, host in (("no guard", model), ("guarded", guarded))
    ]
    return Table(title="As a user calls it", columns=("recording", "spoken", "answer", "model"), rows=tuple(rows))


def suspicion_table(study: SpeechStudy) -> Table:
    """Return how well the default guard's suspicion tells attacked recordings from clean ones; write the scores.

    `suspicion.json` in the folder has rows of `kind` (clean, plain, adaptive), `calls` and `score`.
    """
    scores = _suspicion(study)
    write_atomic(study.folder / "suspicion.json", json.dumps(scores, indent=1))
    rows = []
    for calls in CALLS:
        clean, *attacked = (
            [row["score"] for row in scores if row["calls"] == calls and row["kind"] == kind] for kind in KINDS
        )
        named, *others = ({str(index): score for index, score in enumerate(each)} for each in (clean, *attacked))
        rows.append((str(calls), *(roc_area(named, each) if each else None for each in others)))
    return Table(
        title="Suspicion: area under the curve",
        columns=("calls, one of them clean", "plain attacks", "adaptive attacks"),
        rows=tuple(rows),
    )


def _suspicion(study: SpeechStudy) -> list[dict[str, Any]]:
    kinds = {
        "clean": study.sentences,
        "plain": [each.recording for budget in study.scale.budgets for each in study.plain(budget)],
        "adaptive": [each.recording for each in study.adaptive(DEFAULT)] if DEFAULT in study.scale.adaptive_to else [],
    }
    return [
        {"kind": kind, "calls": calls, "score": study.suspicion(each, DEFAULT, calls)}
        for kind, items in kinds.items()
        for each in items
        for calls in CALLS
    ]


def summary(study: SpeechStudy) -> tuple[str, ...]:
    """Return what was found as sentences, the losses included."""
    table = perturbation_table(study)
    by_name = {str(row[0]): row for row in table.rows}
    bare, own = by_name["no guard"], by_name.get(DEFAULT)
    first = study.scale.budgets[0].snr_db
    found = [
        f"Without a guard, attacks at {first:g} dB made Whisper tiny.en write the chosen sentence in "
        f"{cell_text(bare[4])} of the recordings."
    ]
    if own is not None:
        found.append(
            f"The default, {DEFAULT}, costs a transcript: a word error rate of {cell_text(own[2])} after the vote, "
            f"{cell_text(bare[1])} without a guard; it abstains on {cell_text(own[3])} of the clean recordings. "
            f"Attacks that do not know the guard then succeed in {cell_text(own[4])}, adaptive ones in "
            f"{cell_text(own[-2])}."
        )
    return tuple(found)


def _hits(texts: Sequence[str], found: Sequence[Attacked]) -> Rate:
    return Rate.of(is_hit(text, each) for text, each in zip(texts, found, strict=True))


def _aways(texts: Sequence[str], found: Sequence[Attacked]) -> Rate:
    return Rate.of(is_away(text, each) for text, each in zip(texts, found, strict=True))


def _guarded(study: SpeechStudy, name: str, found: Sequence[Attacked]) -> Rate:
    votes = [study.elected(each.recording, name) for each in found]
    return Rate.of(not vote.abstains and is_hit(vote.text, each) for vote, each in zip(votes, found, strict=True))


def _copies_hit(study: SpeechStudy, name: str, found: Sequence[Attacked]) -> Rate:
    return Rate.of(is_hit(text, each) for each in found for text in study.copies(each.recording, name))


def print_table(table: Table) -> None:
    """Print a table as Markdown."""
    print(f"\n{table.title}\n\n| {' | '.join(table.columns)} |\n{'|---' * len(table.columns)}|")
    for row in table.rows:
        print(f"| {' | '.join(map(cell_text, row))} |", flush=True)
    if table.note:
        print(f"\n{table.note}")


def main() -> None:
    """Print the tables and the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_cache_option(parser)
    parser.add_argument("--scale", choices=tuple(SCALES), default="standard")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/field/speech"), help="what is measured once stays here"
    )
    options = parser.parse_args()
    fetch_all((PACKAGE, SOUNDS, TRANSCRIPTS), options.cache)
    study = SpeechStudy(options.folder, SCALES[options.scale], Path(options.cache))
    for section in sections(study):
        print(f"{section.title}\n\n" + "\n".join(section.text))
        for table in section.tables:
            print_table(table)
    print("", *summary(study), sep="\n")


if __name__ == "__main__":
    main()
