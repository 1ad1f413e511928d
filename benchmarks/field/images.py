"""The image part of the field study: a namer of objects under attack, detection, and what noise costs a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.field.assistant import WORDINGS, sentence
from benchmarks.field.descriptions import description_part
from benchmarks.field.image_detection import detection_sections
from benchmarks.field.outcomes import (
    Escalation,
    Outcomes,
    adaptive_table,
    count,
    escalations,
    named_right,
    outcome_table,
    plain_outcomes,
)
from benchmarks.field.packages import PackageError
from benchmarks.field.part import Log, Part
from benchmarks.field.reading import reading_section
from benchmarks.field.subjects import SCALES, Bench, Subject
from benchmarks.field.summary import summary
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.voting import classify_stances


def image_part(folder: Path, scale_name: str, cache: Path, log: Log) -> Part:
    """Measure everything about images.

    Args:
        folder: Stores images and answers, so that a stopped run resumes.
        scale_name: Of `SCALES`.
        cache: Of downloaded packages.
        log: Told how far it is.

    Raises:
        PackageError: A package cannot be had.
    """
    return measure_images(Bench.load(folder, SCALES[scale_name], cache), cache, log)


def measure_images(bench: Bench, cache: Path, log: Log) -> Part:
    """Measure everything about images with a loaded model; the packages of the reader are fetched, or not measured."""
    everything = bench.subjects()
    right = named_right(bench, everything)
    log(f"{len(right)} of {len(everything)} images are named right")
    outcomes = plain_outcomes(bench, everything, right)
    log("attacks on the model alone")
    photos = [subject for subject in right if subject.kind == "photos"]
    adaptive = escalations(bench, photos[: bench.scale.adaptive_images])
    log("attacks through the guard")
    naming, known = naming_section(bench, outcomes), adaptive_section(bench, adaptive)
    wording, detection = (
        wording_section(bench, everything, right),
        detection_sections(bench, everything, right, adaptive),
    )
    log("detection")
    try:
        described = description_part(bench.describing(cache), log)
    except PackageError as error:
        log(f"skipped: descriptions: {error}")
        described = Part(summary=(), sections=())
    reading = reading_section(cache, num_screens=bench.scale.screens, num_copies=bench.scale.reading_copies)
    log("reading")
    return Part(
        summary=(*summary(outcomes, adaptive, wording, detection[-1]), *described.summary),
        sections=(naming, known, wording, *detection, *described.sections, reading),
    )


def naming_section(bench: Bench, outcomes: Mapping[tuple[str, str, str], Outcomes]) -> Section:
    """Report attacks on the model alone, and what the guard makes of them."""
    return Section(
        title="A namer of objects",
        text=(
            "EfficientNet-Lite0, trained by others on ImageNet, answers as a chat model: *This is an otter.* It names "
            "one of 1,000 objects and does nothing else, so this says what happens to what an image shows, not to what "
            "a language model makes of it. The images are the 20 labelled photos that foolbox ships and cut-outs on "
            "white from Tux Paint, whose caption names a class. All are at the 224 pixels that the namer sees, and the "
            "guard knows that size.",
            f"Without an attack all images count, also those that the model alone names wrong. Attacks are targeted "
            f"PGD of {bench.scale.num_steps} steps on the model alone, on images that it names right. *Right*: a right "
            f"name in the answer. *Target*: the name that the attacker wants. *Withheld*: the copies disagree, and the "
            f"guard says that it can't answer. *If names were voted on*: at "
            f"least half of the copies agree on the name; what is lost beside it is lost by the grouping of sentences.",
        ),
        tables=(outcome_table(outcomes),),
    )


def adaptive_section(bench: Bench, adaptive: Mapping[tuple[str, int], Escalation]) -> Section:
    """Report attackers who know the guard."""
    num_photos = len(next(iter(adaptive.values())).subjects)
    gradients = next(iter(adaptive.values())).stages[-1].gradients
    series = tuple(
        Series(
            name=f"{guard}, {epsilon}/255",
            points=tuple(Point(x=stage.gradients, y=stage.lost) for stage in escalation.stages),
        )
        for (guard, epsilon), escalation in adaptive.items()
    )
    return Section(
        title="Attackers who know the guard",
        text=(
            f"{num_photos} photos, the first that are named right, attacked through the guard's own perturbation, "
            f"averaged over its draws, with up to {gradients:,} gradients for each. After every stage the attacker "
            f"tries the image on the guard and begins again, at a random point and with a larger budget, with those "
            f"that failed. *Lost*: the guard named the target at one of these tries. The other columns are for the "
            f"images as they were left, with fresh noise.",
        ),
        tables=(adaptive_table(bench, adaptive),),
        curves=(
            Curve(
                title="Photos lost, by gradients spent on each",
                x_label="gradients per image",
                y_label="share of photos lost",
                series=series,
                log_x=True,
            ),
        ),
    )


def wording_section(bench: Bench, everything: Sequence[Subject], right: Sequence[Subject]) -> Section:
    """Report what the guard's classifier of stances makes of plain sentences, and what its mistakes cost."""
    names = list(dict.fromkeys(bench.chat.names))
    sentences = []
    for number in range(len(WORDINGS)):
        found = Counter(classify_stances([sentence(name, number) for name in names]))
        sentences.append((sentence("otter", number), *(found[stance] for stance in ("answers", "unsure", "refuses"))))
    epsilon = bench.scale.epsilons[len(bench.scale.epsilons) // 2]
    images = {"none": everything, f"{epsilon}/255": [bench.attacked(subject, epsilon) for subject in right]}
    classifiers = {
        "the guard's": None,
        "takes all as answers": GuardComponents(stance_classifier=_all_answer),
    }
    cost: list[tuple[str | Rate | float, ...]] = []
    for attack, subjects in images.items():
        for classifier, components in classifiers.items():
            for guard, config in bench.guards.items():
                counted = count(bench, subjects, config, components=components)
                cost.append((attack, guard, classifier, counted.guarded[0], counted.withheld, counted.calls))
    return Section(
        title="How the vote takes plain sentences",
        text=(
            f"The guard sorts answers into those that answer, are unsure, or refuse, before it groups them. Every "
            f"sentence below names an object plainly, so each should count as an answer, with all {len(names)} names. "
            f"The second table says what the mistakes cost, on all images or the attacked ones, by replacing the "
            f"classifier.",
        ),
        tables=(
            Table(
                title="Sentences by what the classifier calls them",
                columns=("sentence", "answers", "unsure", "refuses"),
                rows=tuple(sentences),
            ),
            Table(
                title="What it costs",
                columns=("attack", "guard", "classifier", "right", "withheld", "calls"),
                rows=tuple(cost),
            ),
        ),
    )


def _all_answer(texts: Sequence[str]) -> list[Stance]:
    return ["answers"] * len(texts)
