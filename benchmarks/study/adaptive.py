"""Attackers who know the guard: success against budget, and other attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.study.attacks import load_reference
from benchmarks.study.design import ADAPTIVE_EPSILON, guards
from benchmarks.study.measure import Stage, Study
from benchmarks.study.sections import Row
from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.attacks import UniversalPGD
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table
from smoothguard_guardrail.media.image import encode_png
from smoothguard_guardrail.models.reference.questions import secret_questions, target_answer


def escalation_section(study: Study, rows: Mapping[str, Row]) -> Section:
    """Report success against budget."""
    return Section(
        title="Success against budget",
        text=(
            f"Attacks of {ADAPTIVE_EPSILON}/255 through the whole perturbation of each guard, averaged over its draws. "
            f"After every stage the attacker tries the images on the guard once and continues with those that failed, "
            f"from a new random start: the curves are for an attacker with {len(study.scale.budgets)} tries.",
            plateau(rows["ours"].stages),
        ),
        curves=(
            Curve(
                title="Images lost, by gradients spent on each",
                x_label="gradients per image",
                y_label="share of images lost",
                series=tuple(
                    Series(name=name, points=tuple(Point(x=stage.evaluations, y=stage.lost) for stage in row.stages))
                    for name, row in rows.items()
                ),
                log_x=True,
            ),
            Curve(
                title="Copies that leak, by gradients spent on each image",
                x_label="gradients per image",
                y_label="share of perturbed copies",
                series=tuple(
                    Series(
                        name=name,
                        points=tuple(
                            Point(x=stage.evaluations, y=stage.leak_rate)
                            for stage in row.stages
                            if stage.leak_rate is not None
                        ),
                    )
                    for name, row in rows.items()
                    if row.stages[0].leak_rate is not None
                ),
                log_x=True,
                note="These figures depend on neither the vote nor the number of tries: they show the attack itself.",
            ),
        ),
    )


def plateau(stages: Sequence[Stage]) -> str:
    """Say whether success was still rising at the end of the budget."""
    first, last = stages[(len(stages) - 1) // 2], stages[-1]
    grown = last.lost.k - first.lost.k
    copies = (
        ""
        if first.leak_rate is None or last.leak_rate is None
        else f" The share of perturbed copies that leak went from {first.leak_rate:.2f} to "
        f"{last.leak_rate:.2f} meanwhile."
    )
    if grown:
        return (
            f"Against ours success was still rising when the budget ended: {grown} of {last.lost.n} images fell "
            f"between {first.evaluations:,} and {last.evaluations:,} gradients. A patient attacker gets "
            f"further.{copies}"
        )
    return (
        f"Against ours no image fell between {first.evaluations:,} and {last.evaluations:,} gradients per image: "
        f"within this budget success had stopped rising, at {last.lost}.{copies}"
    )


def others_section(study: Study) -> Section:
    """Attack with one image for all questions, and with only queries."""
    tasks = study.tasks()
    rows = []
    for epsilon in (16, 32, None):
        items = _universal(study, epsilon)
        name = "universal, unbounded" if epsilon is None else f"universal {epsilon}/255"
        rows.append((name, *(study.rate(guard, items, config) for guard, config in guards().items())))
    items = _square(study, tasks.requests.items[: study.scale.escalated], 32)
    rows.append(("only queries 32/255", *(study.rate(guard, items, config) for guard, config in guards().items())))
    return Section(
        title="One image for all, and only queries",
        text=(
            "*Universal*: one image, optimised on the training phrases of all requests, asked with held-out phrases. "
            "*Only queries*: Square Attack, which uses the likelihood of its target but no gradient.",
        ),
        tables=(Table(title="Secrets leaked", columns=("attack", *guards()), rows=tuple(rows)),),
    )


def _universal(study: Study, epsilon: int | None) -> tuple[Item, ...]:
    """Make one image against all requests, and return all held-out requests with it."""
    items = study.tasks().requests.items
    path = study.folder / "attacked" / f"universal-{epsilon}-{study.scale.num_steps}.png"
    if not path.exists():
        for _ in study.mapper(partial(_make_universal, epsilon, 4 * study.scale.num_steps, path), [items[0]]):
            pass
    unique = {item.question: item for item in items}
    return tuple(item.model_copy(update={"media": (path,)}) for item in unique.values())


def _make_universal(epsilon: int | None, num_steps: int, path: Path, item: Item) -> None:
    corpus = secret_questions(split="train")
    attack = UniversalPGD(
        None if epsilon is None else epsilon / 255, step_size=2 / 255, num_steps=num_steps, momentum=0.5, seed=0
    )
    found = attack(
        load_reference(),
        read_image(item.media[0]),
        [question for question, _ in corpus],
        [target_answer(name) for _, name in corpus],
    )
    write_atomic(path, encode_png(found.images[0]))


def _square(study: Study, items: Sequence[Item], epsilon: int) -> tuple[Item, ...]:
    attack = AttackSettings(method="square", epsilon=epsilon / 255, num_steps=5 * study.scale.num_steps)
    return study.attacked(attack, items, batch_size=4)
