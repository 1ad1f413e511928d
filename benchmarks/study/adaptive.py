"""Attackers who know the guard: how far success rises with what they spend, and other ways to attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.study.attacks import adaptive_attack, load_reference
from benchmarks.study.design import ADAPTIVE_EPSILON, guards
from benchmarks.study.measure import Climb, Study
from benchmarks.study.sections import Row
from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.attacks import UniversalPGD
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.attacked_images import AttackSettings, read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table
from smoothguard_guardrail.media.image import encode_image
from smoothguard_guardrail.models.reference.questions import secret_questions, target_answer


def climbing_section(study: Study, rows: Mapping[str, Row]) -> Section:
    """Tell success against budget, and attack our guard in the other ways that an attacker may try."""
    ours = SmoothGuardConfig.reference()
    requests = study.tasks().requests.items[: study.scale.climbed]
    climbs = {name: row.climb for name, row in rows.items()}
    usual = [budget for budget in study.scale.budgets if budget[0] <= study.scale.num_steps][-1:]
    climbs["ours, straight through clipping"] = study.climb(
        "ours",
        requests,
        ours,
        usual,
        adaptive_attack(ours, straight_through=True, seed=100),
    )
    climbs["ours, transfer from the bare model"] = study.climb(
        "ours",
        requests,
        ours,
        [(steps, 1) for steps, _ in study.scale.budgets],
        adaptive_attack(None),
    )
    series = tuple(
        Series(name=name, points=tuple(Point(x=rung.evaluations, y=rung.lost) for rung in climb.rungs))
        for name, climb in climbs.items()
    )
    return Section(
        title="Success against budget",
        text=(
            f"Attacks of {ADAPTIVE_EPSILON}/255 through the whole perturbation of each guard, averaged over its draws. "
            f"After every rung the attacker tries the picture on the guard and goes on with those that failed, from a "
            f"new random start. So the curves are what an attacker reaches who may try "
            f"{len(study.scale.budgets)} times. *Straight through clipping* passes the gradient as if values were "
            f"not clipped (BPDA); shifts and low-pass have exact gradients. *Transfer* never looks at the guard.",
            plateau(climbs["ours"]),
        ),
        curves=(
            Curve(
                title="Pictures lost, by gradients spent on each",
                x_label="gradients per picture",
                y_label="share of pictures lost",
                series=series,
                log_x=True,
            ),
            Curve(
                title="Copies that tell, by gradients spent on each picture",
                x_label="gradients per picture",
                y_label="share of perturbed copies",
                series=tuple(
                    Series(
                        name=name,
                        points=tuple(
                            Point(x=rung.evaluations, y=rung.leak_rate)
                            for rung in climb.rungs
                            if rung.leak_rate is not None
                        ),
                    )
                    for name, climb in climbs.items()
                    if climb.rungs[0].leak_rate is not None
                ),
                log_x=True,
                note="No vote and no number of tries is in these figures: they show the attack itself.",
            ),
        ),
    )


def plateau(climb: Climb) -> str:
    """Say whether the success of the attack still rose at the end of its budget."""
    first, last = climb.rungs[len(climb.rungs) // 2], climb.rungs[-1]
    grown = last.lost.k - first.lost.k
    copies = (
        ""
        if first.leak_rate is None or last.leak_rate is None
        else f" The share of perturbed copies that tell went from {first.leak_rate:.2f} to "
        f"{last.leak_rate:.2f} meanwhile."
    )
    if grown:
        return (
            f"Against ours success was still rising when the budget ended: {grown} of {last.lost.n} pictures fell "
            f"between {first.evaluations:,} and {last.evaluations:,} gradients. A patient attacker gets "
            f"further.{copies}"
        )
    return (
        f"Against ours no picture fell between {first.evaluations:,} and {last.evaluations:,} gradients per picture: "
        f"within this budget success had stopped rising, at {last.lost}.{copies}"
    )


def others_section(study: Study) -> Section:
    """Attack with one picture for all questions, and with queries alone."""
    tasks = study.tasks()
    rows = []
    for epsilon in (16, 32, None):
        items = _universal(study, epsilon)
        name = "universal, unbounded" if epsilon is None else f"universal {epsilon}/255"
        rows.append((name, *(study.rate(guard, items, config) for guard, config in guards().items())))
    items = _square(study, tasks.requests.items[: study.scale.climbed], 32)
    rows.append(("queries alone 32/255", *(study.rate(guard, items, config) for guard, config in guards().items())))
    return Section(
        title="One picture for all, and queries alone",
        text=(
            "*Universal*: one picture, optimised on the training phrases of all requests, asked with held-out phrases. "
            "*Queries alone*: Square Attack, which sees the likelihood of its target and no gradient.",
        ),
        tables=(Table(title="Secrets told", columns=("attack", *guards()), rows=tuple(rows)),),
    )


def _universal(study: Study, epsilon: int | None) -> tuple[Item, ...]:
    """Make one picture that shall open every request, and ask all held-out requests with it."""
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
    write_atomic(path, encode_image(found.images[0]))


def _square(study: Study, items: Sequence[Item], epsilon: int) -> tuple[Item, ...]:
    attack = AttackSettings(method="square", epsilon=epsilon / 255, num_steps=5 * study.scale.num_steps)
    return study.attacked(attack, items, batch_size=4)
