"""What the namer and its guard say about original and attacked images, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.field.assistant import name_in
from benchmarks.field.copies import winner
from benchmarks.field.subjects import SEED, Bench, Subject
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.replay import CopyAnswers, Replayed, replay
from smoothguard_guardrail.evaluation.report import Table
from smoothguard_guardrail.evaluation.statistics import Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """How often a right name and the attacker's target are named.

    Args:
        bare: By the model alone: right, target.
        copies: On single perturbed copies: right, target.
        guarded: By the guard: right, target.
        withheld: How often the guard abstained.
        ideal: Right names if the vote compared names instead of sentences.
        calls: Mean number of model calls of a guarded request.
    """

    bare: tuple[Rate, Rate]
    copies: tuple[Rate, Rate]
    guarded: tuple[Rate, Rate]
    withheld: Rate
    ideal: Rate
    calls: float

    @property
    def cells(self) -> tuple[Rate | float, ...]:
        """All of them, in the order of `COLUMNS`."""
        return (*self.bare, *self.copies, *self.guarded, self.withheld, self.ideal, self.calls)


COLUMNS = (
    "alone: right",
    "alone: target",
    "single copies: right",
    "single copies: target",
    "guarded: right",
    "guarded: target",
    "guarded: withheld",
    "right, if names were voted on",
    "calls",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The result of one budget.

    Args:
        gradients: Spent so far on each image that the guard had not lost.
        lost: Images on which the guard named the target, at this try or an earlier one.
    """

    gradients: int
    lost: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Attacks through a guard with growing budgets, until it names the target or the last budget ends.

    Args:
        stages: By budget.
        subjects: Every image as its last attack left it.
    """

    stages: tuple[Stage, ...]
    subjects: tuple[Subject, ...]


def count(
    bench: Bench,
    subjects: Sequence[Subject],
    config: SmoothGuardConfig,
    *,
    components: GuardComponents | None = None,
) -> Outcomes:
    """Ask about images, alone and guarded, and count.

    Args:
        bench: The model.
        subjects: The images.
        config: Of the guard.
        components: Replaced parts of the vote.
    """
    records = bench.ask(subjects, config)
    elected = replay(config, records, components=components)
    names, pairs = bench.chat.names, list(zip(subjects, records, strict=True))

    def rates(texts: Callable[[CopyAnswers], Sequence[str | None]]) -> tuple[Rate, Rate]:
        right, target = [], []
        for subject, record in pairs:
            named = [name_in(text or "", names) for text in texts(record)]
            right.append(sum(name in subject.right for name in named) / len(named))
            target.append(named.count(bench.target_name(subject)) / len(named))
        return Rate.mean(right), Rate.mean(target)

    texts = {record.item_id: [answer.text] for record, answer in zip(records, elected, strict=True)}
    ideal = [winner([name_in(text or "", names) for text in record.answers]) for record in records]
    return Outcomes(
        bare=rates(lambda record: [record.clean]),
        copies=rates(lambda record: record.answers),
        guarded=rates(lambda record: texts[record.item_id]),
        withheld=Rate.of(answer.verdict == "abstained" for answer in elected),
        ideal=Rate.of(name in subject.right for subject, name in zip(subjects, ideal, strict=True)),
        calls=sum(answer.num_calls for answer in elected) / len(elected),
    )


def named_right(bench: Bench, subjects: Sequence[Subject]) -> list[Subject]:
    """Return the images that the model alone names right."""
    records = bench.ask(subjects, SmoothGuardConfig())
    return [
        subject
        for subject, record in zip(subjects, records, strict=True)
        if name_in(record.clean or "", bench.chat.names) in subject.right
    ]


def escalate(bench: Bench, subjects: Sequence[Subject], epsilon: int, config: SmoothGuardConfig) -> Escalation:
    """Attack images through a guard; after every stage go on with those on which it did not name the target.

    Every try has its own noise, and none has that of `count`.
    """
    last = {subject.name: subject for subject in subjects}
    remaining, stages, spent = list(subjects), [], 0
    for number, budget in enumerate(bench.scale.budgets):
        spent += budget[0] * budget[1]
        found = [bench.attacked(subject, epsilon, through=config, budget=budget, stage=number) for subject in remaining]
        last |= {subject.name: subject for subject in found}
        records = bench.ask(found, config, seed=SEED + 1 + number)
        fell = {
            subject.name
            for subject, answer in zip(found, replay(config, records), strict=True)
            if _names_target(bench, subject, answer)
        }
        remaining = [subject for subject in remaining if subject.name not in fell]
        stages.append(Stage(gradients=spent, lost=Rate(k=len(subjects) - len(remaining), n=len(subjects))))
    return Escalation(stages=tuple(stages), subjects=tuple(last.values()))


def escalations(bench: Bench, subjects: Sequence[Subject]) -> Mapping[tuple[str, int], Escalation]:
    """Attack images through every guard of the bench at every radius."""
    return {
        (guard, epsilon): escalate(bench, subjects, epsilon, config)
        for guard, config in bench.guards.items()
        for epsilon in bench.scale.epsilons
    }


def plain_outcomes(
    bench: Bench, everything: Sequence[Subject], right: Sequence[Subject]
) -> dict[tuple[str, str, str], Outcomes]:
    """Return outcomes by kind of image, attack and guard; clean images include those named wrong."""
    found = {}
    for kind in dict.fromkeys(subject.kind for subject in everything):
        images = {"none": [subject for subject in everything if subject.kind == kind]}
        originals = [subject for subject in right if subject.kind == kind]
        for epsilon in bench.scale.epsilons:
            images[f"{epsilon}/255"] = [bench.attacked(subject, epsilon) for subject in originals]
        for attack, subjects in images.items():
            for guard, config in bench.guards.items():
                found[kind, attack, guard] = count(bench, subjects, config)
    return found


def outcome_table(outcomes: Mapping[tuple[str, str, str], Outcomes]) -> Table:
    """Return how often right names and targets are named."""
    return Table(
        title="Right names and targets",
        columns=("images", "attack", "guard", *COLUMNS),
        rows=tuple((*key, *found.cells) for key, found in outcomes.items()),
        note="Single copies count by image: half of its copies count as half an image.",
    )


def adaptive_table(bench: Bench, adaptive: Mapping[tuple[str, int], Escalation]) -> Table:
    """Return how many photos attackers who know the guard turn."""
    rows = []
    for (guard, epsilon), escalation in adaptive.items():
        found = count(bench, escalation.subjects, bench.guards[guard])
        lost = [stage.lost for stage in escalation.stages]
        rows.append((guard, f"{epsilon}/255", *lost, *found.copies[::-1], *found.guarded[::-1], found.withheld))
    spent = [stage.gradients for stage in next(iter(adaptive.values())).stages]
    return Table(
        title="Photos lost",
        columns=(
            "guard",
            "radius",
            *(f"lost, {gradients:,} gradients" for gradients in spent),
            "single copies: target",
            "single copies: right",
            "guarded: target",
            "guarded: right",
            "guarded: withheld",
        ),
        rows=tuple(rows),
    )


def _names_target(bench: Bench, subject: Subject, answer: Replayed) -> bool:
    return name_in(answer.text, bench.chat.names) == bench.target_name(subject)
