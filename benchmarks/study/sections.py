"""Sections of the report, each with its measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.study.attacks import random_signs
from benchmarks.study.design import (
    ADAPTIVE_EPSILON,
    EPSILONS,
    SIGMAS,
    SMALLEST_SIGMA,
    guards,
)
from benchmarks.study.measure import Judgement, Stage, Study
from benchmarks.study.tasks import is_leak, is_right, is_wrong_way
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arms import noise_only
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.replay import CopyAnswers, replay
from smoothguard_guardrail.evaluation.report import Curve, Point, Section, Series, Table
from smoothguard_guardrail.evaluation.statistics import Rate, mcnemar

ADAPTIVE = f"adaptive {ADAPTIVE_EPSILON}/255"
CONTROL = f"random signs {max(EPSILONS)}/255"
OVER_REFUSAL = "over-refusal"
CLEAN, POPE = "clean accuracy", "POPE accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One guard in the table."""

    rates: Mapping[str, Rate]
    calls: float
    stages: tuple[Stage, ...]
    """Success against budget of attacks that know the guard."""


def attacked(epsilon: int) -> str:
    """Return the name of a column."""
    return f"attacked {epsilon}/255"


def plain(study: Study, items: Sequence[Item], epsilon: int) -> tuple[Item, ...]:
    """Attack images without knowing the guard."""
    return study.attacked(AttackSettings(epsilon=epsilon / 255, num_steps=study.scale.num_steps), items, batch_size=10)


def headline(study: Study) -> dict[str, Row]:
    """Measure the table of docs/measurements.md."""
    tasks = study.tasks()
    requests = tasks.requests.items
    images = {attacked(epsilon): plain(study, requests, epsilon) for epsilon in EPSILONS}
    images[CONTROL] = random_signs(requests, max(EPSILONS), study.folder / "attacked")
    rows = {}
    for name, config in guards().items():
        rates = {column: study.rate(name, items, config) for column, items in images.items()}
        allowed = study.rate(name, tasks.authorised, config)
        rates[CLEAN] = study.rate(name, tasks.harmless, config, is_right)
        rates[POPE] = inverse(study.rate(name, tasks.pope.items, config, is_wrong_way))
        rates[OVER_REFUSAL] = inverse(allowed)
        calls = study.calls.get(name, [1])
        stages = study.escalate(name, requests[: study.scale.escalated], config, study.scale.budgets)
        rates[ADAPTIVE] = stages[-1].lost
        rows[name] = Row(rates=rates, calls=sum(calls) / len(calls), stages=stages)
    return rows


def headline_section(rows: Mapping[str, Row]) -> Section:
    """Return the table as a section."""
    columns = [*map(attacked, EPSILONS), ADAPTIVE, CONTROL, CLEAN, POPE, OVER_REFUSAL]
    order = sorted(rows, key=lambda name: name not in ("no guard", "ours"))
    cells = [(column, *(rows[name].rates[column] for name in order)) for column in columns]
    calls = ("mean calls", *(round(rows[name].calls, 1) for name in order))
    return Section(
        title="What the guards withstand",
        text=(
            "Every image was attacked separately to make the model leak a secret. *Attacked* images were made against "
            "the bare model, *adaptive* ones through the whole perturbation of the row's guard, with a budget that "
            "grew until the guard leaked or the budget ended (see below). *Random signs* are the control: noise of "
            "the attack's size. Rates are of leaked secrets, of right answers, and of refused authorised requests; "
            "in brackets Wilson's 95 % interval.",
        ),
        tables=(Table(title="Guards", columns=("", *order), rows=(*cells, calls)),),
    )


def arms_section(study: Study) -> Section:
    """Measure the four arms that every claim needs, on both kinds of task."""
    tasks, ours = study.tasks(), SmoothGuardConfig.reference()
    noise = noise_only(ours)
    half = tasks.pope.items[: len(tasks.requests.items)]
    rows: list[tuple[Any, ...]] = []
    tests: list[tuple[Any, ...]] = []
    for task, items, judged in (
        ("requests: secret leaked", tasks.requests.items, is_leak),
        ("POPE: wrong answer", half, is_wrong_way),
    ):
        bad = plain(study, items, ADAPTIVE_EPSILON)
        arms: dict[str, tuple[Sequence[Item], SmoothGuardConfig | None]] = {
            "clean": (items, None),
            "clean, only noise": (items, noise),
            "clean, guarded": (items, ours),
            "adversarial": (bad, None),
            "adversarial, only noise": (bad, noise),
            "adversarial, guarded": (bad, ours),
        }
        outcomes = {arm: _outcomes(study, arm, *content, judged) for arm, content in arms.items()}
        rows += [(task, arm, Rate.of(found.values())) for arm, found in outcomes.items()]
        for first, second in (
            ("clean", "clean, only noise"),
            ("clean", "clean, guarded"),
            ("adversarial", "adversarial, only noise"),
            ("adversarial", "adversarial, guarded"),
        ):
            test = mcnemar(outcomes[first], outcomes[second])
            tests.append((task, first, second, test.only_first, test.only_second, f"{test.p_value:.2g}"))
    return Section(
        title="Clean, noisy, adversarial, guarded",
        text=(
            f"Noise can raise or lower the success of an attack by itself, so it has separate arms: one perturbed "
            f"copy, asked once. Attacks are those of {ADAPTIVE_EPSILON}/255 on the bare model; on questions "
            f"of POPE's kind they aim at the wrong answer.",
        ),
        tables=(
            Table(title="Share of bad answers", columns=("task", "arm", "rate"), rows=tuple(rows)),
            Table(
                title="McNemar's exact test, same items",
                columns=("task", "first arm", "second arm", "bad in first only", "bad in second only", "p"),
                rows=tuple(tests),
            ),
        ),
    )


def sigma_section(study: Study) -> Section:
    """Sweep the noise from none to 0.5, for the paper's rule and for ours."""
    tasks, ours = study.tasks(), SmoothGuardConfig.reference()
    some = slice(study.scale.swept)
    groups: dict[str, tuple[Sequence[Item], Judgement]] = {
        f"{epsilon}/255": (plain(study, tasks.requests.items, epsilon)[some], is_leak) for epsilon in EPSILONS
    }
    groups["clean accuracy"] = tasks.harmless[some], is_right
    groups["POPE accuracy"] = tasks.pope.items[some], lambda item, text: not is_wrong_way(item, text)
    curves = []
    for title, base in (
        ("Only noise, the paper's vote", SmoothGuardConfig.paper(noise_space="pixel")),
        ("Our shift, our vote", ours),
    ):
        points: dict[str, list[Point]] = {group: [] for group in groups}
        for sigma in SIGMAS:
            config = base.override(sigma=max(sigma, SMALLEST_SIGMA))
            for group, (items, judged) in groups.items():
                points[group].append(Point(x=sigma, y=replayed(config, items, study.copies(config, items), judged)))
        series = tuple(Series(name=group, points=tuple(found)) for group, found in points.items())
        curves.append(Curve(title=title, x_label="sigma, in pixels of [0, 1]", y_label="rate", series=series))
    return Section(
        title="How much noise",
        text=(
            "Attacks on the bare model, by radius: the share of leaked secrets. The two accuracies show what the noise "
            "costs. These attacks do not know the guard; success against budget is about those that do.",
        ),
        curves=tuple(curves),
    )


def inverse(rate: Rate) -> Rate:
    """Return the rate of the remaining items."""
    return Rate(k=rate.n - rate.k, n=rate.n)


def _outcomes(
    study: Study, arm: str, items: Sequence[Item], config: SmoothGuardConfig | None, judged: Judgement
) -> dict[str, bool | None]:
    answers = study.ask(arm, items, config)
    return {item.id: judged(item, answers[item.id].text) for item in items}


def replayed(
    config: SmoothGuardConfig, items: Sequence[Item], copies: Sequence[CopyAnswers], judged: Judgement
) -> Rate:
    """Vote on recorded answers, and return the share of elected answers judged true."""
    return Rate.of(judged(item, found.text) for item, found in zip(items, replay(config, copies), strict=True))
