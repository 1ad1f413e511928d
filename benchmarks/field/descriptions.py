"""A language model that speaks of what the namer sees, attacked and guarded."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.field.outcomes import (
    adaptive_table,
    escalations,
    named_right,
    outcome_table,
    plain_outcomes,
)
from benchmarks.field.part import Log, Part
from benchmarks.field.subjects import Bench, Subject
from benchmarks.field.summary import description_summary
from benchmarks.field.talker import MAX_TOKENS
from smoothguard_guardrail.evaluation.replay import replay
from smoothguard_guardrail.evaluation.report import Section, Table

NUM_EXAMPLES = 6


def description_part(bench: Bench, log: Log) -> Part:
    """Measure a language model that speaks of what the namer sees, attacked and guarded.

    Args:
        bench: Of the describer.
        log: Told how far it is.
    """
    everything = bench.subjects()
    right = named_right(bench, everything)
    outcomes = plain_outcomes(bench, everything, right)
    log("descriptions: attacks on the model alone")
    photos = [subject for subject in right if subject.kind == "photos"][: bench.scale.adaptive_images]
    adaptive = escalations(bench, photos)
    log("descriptions: attacks through the guard")
    section = Section(
        title="A describer of objects",
        text=(
            "SmolLM2-135M-Instruct, a small language model, answers a question about the image in its own words, in "
            f"at most {MAX_TOKENS} tokens, greedily. It sees the image only through the namer: where its prompt would "
            "name the object stands a mixture of the names' token embeddings, weighted by the namer's probabilities. "
            "It knows one object and invents the rest, often wrongly: *a yurt, a traditional type of shelter used by "
            "the ancient Egyptians*. So its answers are worded freely, and their errors are those of a language model.",
            "An answer names what stands first in it among the 1,000 names; an answer that names none, or names the "
            "object by another word, counts as wrong. Attacks are those on the namer, on images that this model "
            "describes right; images that it described wrong are attacked nowhere.",
        ),
        tables=(outcome_table(outcomes), adaptive_table(bench, adaptive), example_table(bench, photos)),
    )
    return Part(summary=(description_summary(outcomes, adaptive),), sections=(section,))


def example_table(bench: Bench, subjects: Sequence[Subject]) -> Table:
    """Return what is said of a few images, attacked and not, alone and guarded."""
    config = next(iter(bench.guards.values()))
    epsilon = bench.scale.epsilons[len(bench.scale.epsilons) // 2]
    rows = []
    for subject in subjects[:NUM_EXAMPLES]:
        shown = {"none": subject, f"{epsilon}/255": bench.attacked(subject, epsilon)}
        records = bench.ask([*shown.values()], config)
        guarded = replay(config, records)
        rows += [
            (subject.name, attack, record.clean or "", answer.text)
            for attack, record, answer in zip(shown, records, guarded, strict=True)
        ]
    return Table(title="What it says", columns=("image", "attack", "alone", "guarded"), rows=tuple(rows))
