"""Reports what attackers reached in an arena."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from smoothguard_guardrail.evaluation.arena import (
    FIRST_TRIES,
    LAST_TRIES,
    NUM_TRIES,
    SIMULATED,
    ArenaResult,
    Duel,
    any_of,
)
from smoothguard_guardrail.evaluation.report.content import Cell, Curve, Point, Section, Series, Table
from smoothguard_guardrail.evaluation.statistics import Rate

WORST = "the worst for each item"


def arena_section(result: ArenaResult, *, title: str, about: str) -> Section:
    """Return an arena's results as a section.

    Args:
        result: What `Arena.run` returned.
        title: Of the section.
        about: One or two sentences on the items and on what counts as success.
    """
    return Section(
        title=title,
        text=(
            about,
            f"Every attacker attacks every item, then asks the model about {SIMULATED} perturbed copies of the result, "
            f"as anyone with the model can. *Copies* is the share that gave the wanted answer. Each result is tried "
            f"{FIRST_TRIES} times on the guard. For each item the result with the most such copies is then tried "
            f"{LAST_TRIES} more times, with other noise: *{WORST}*. An attacker who tries again draws new noise, so "
            f"*any of k* is the chance that one of k tries succeeds. An item counts once however often it is tried.",
        ),
        tables=(_attackers(result), _tries(result)),
        curves=(_curve(result),),
    )


def arena_sentences(result: ArenaResult) -> tuple[str, ...]:
    """Return what the arena found, in plain words."""
    single, four, sixteen = (result.worst_any_of(k) for k in NUM_TRIES)
    names = Counter(duel.attacker for duel in result.worst if duel.copies.k)
    strongest = ", ".join(f"{name} ({count})" for name, count in names.most_common(3)) or "none"
    return (
        f"Of {single.n} items, one try of the worst attacker for each succeeded with a chance of {_share(single)}; any "
        f"of 4 tries with {_share(four)}, any of 16 with {_share(sixteen)}.",
        f"Some try of some attacker succeeded on {result.fallen.count} items.",
        f"Attackers that were the worst for the most items: {strongest}.",
    )


def _attackers(result: ArenaResult) -> Table:
    worst = Counter(duel.attacker for duel in result.worst if duel.copies.k)
    rows: list[tuple[Cell, ...]] = []
    for attacker in result.attackers:
        duels, settings = result.duels[attacker.name], attacker.settings
        gradients = None if settings.method == "square" else settings.num_steps * settings.draws_per_step
        rows.append(
            (
                attacker.name,
                attacker.about,
                gradients,
                _copies(duels),
                any_of(duels, 1),
                any_of(duels, FIRST_TRIES),
                worst[attacker.name],
            )
        )
    columns = ("attacker", "how", "gradients", "copies", "one try", f"any of {FIRST_TRIES}", "worst for")
    return Table(
        title="Attackers",
        columns=columns,
        rows=tuple(rows),
        note="*Worst for*: the items on which no other attacker won more copies.",
    )


def _tries(result: ArenaResult) -> Table:
    rows = [(f"any of {k}" if k > 1 else "one try", result.worst_any_of(k)) for k in NUM_TRIES]
    return Table(
        title=f"Items lost to {WORST}",
        columns=("tries", "share of items"),
        rows=(*rows, ("any try of any attacker", result.fallen)),
    )


def _curve(result: ArenaResult) -> Curve:
    counts = range(1, LAST_TRIES + 1)
    return Curve(
        title="Items lost, by tries",
        x_label="tries",
        y_label="share of items",
        series=(Series(name=WORST, points=tuple(Point(x=k, y=result.worst_any_of(k)) for k in counts)),),
    )


def _copies(duels: Sequence[Duel]) -> Rate:
    return Rate.mean(duel.copies.value or 0.0 for duel in duels)


def _share(rate: Rate) -> str:
    low, high = rate.interval() or (0.0, 1.0)
    return f"{rate.value or 0:.2f} ({low:.2f}-{high:.2f})"
