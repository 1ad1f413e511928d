"""A study of one guard on one model: what it costs on the user's rows, and what an arena of attackers reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.arena import Arena, ArenaResult, Progress
from smoothguard_guardrail.evaluation.arena_report import arena_section, arena_sentences
from smoothguard_guardrail.evaluation.arms import with_media
from smoothguard_guardrail.evaluation.calibration.bench import Bench
from smoothguard_guardrail.evaluation.calibration.results import HARMLESS, UNATTACKED, Measured, Unguarded
from smoothguard_guardrail.evaluation.calibration.rows import Match, Rows, succeeded
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.report.content import Report, Section, Table
from smoothguard_guardrail.evaluation.shared import CachedEmbeddings
from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.evaluation.attackers import Attacker
    from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
    from smoothguard_guardrail.evaluation.identity import ModelIdentity


class GuardStudy(Record):
    """What a guard costs and withstands."""

    alone: Unguarded
    """The model without the guard."""
    guarded: Measured
    """The same rows with the guard."""
    arena: ArenaResult
    bare: dict[str, Rate]
    """By attacker, the share of its media on which the model without the guard gives the wanted answer."""


def study_guard(
    store: AnswerStore,
    rows: Rows,
    config: SmoothGuardConfig,
    attackers: Sequence[Attacker],
    *,
    folder: Path,
    identity: ModelIdentity,
    match: Match = "equal",
    progress: Progress = lambda text: None,
) -> GuardStudy:
    """Ask the rows with and without the guard, then let every attacker attack.

    Args:
        store: Asks and stores answers.
        rows: Harmless rows, and rows to attack with a `target`.
        config: The guard.
        attackers: As `default_attackers` returns them.
        folder: Stores attacked media.
        identity: Of the model.
        match: How a right answer to a harmless row matches.
        progress: Called with a description of each step.

    Raises:
        ConfigurationError: There are no harmless rows or none to attack, or the model is not local.
    """
    if not rows.harmless or not rows.attack:
        raise ConfigurationError('a study needs rows with "answer" (harmless) and rows with "target" (to attack)')
    embeddings = CachedEmbeddings()
    bench = Bench(
        store,
        folder=folder,
        identity=identity,
        attack=None,
        match=match,
        embeddings=embeddings,
        progress=progress,
    )
    alone = bench.unguarded(rows, config)
    (guarded,) = bench.measure([config], rows, alone)
    arena = Arena(
        store,
        config,
        folder=folder,
        identity=identity,
        succeeded=succeeded,
        embeddings=embeddings,
        progress=progress,
    )
    fought = arena.run(rows.attack, attackers)
    bare = {}
    for name, duels in fought.duels.items():
        attacked = with_media(rows.attack, {duel.item_id: duel.medium for duel in duels})
        answers = store.clean(attacked, config)
        texts = [(item, answers[item.id]) for item in attacked]
        bare[name] = Rate.of(None if text is None else succeeded(item, text) for item, text in texts)
    return GuardStudy(alone=alone, guarded=guarded, arena=fought, bare=bare)


def study_report(found: GuardStudy, *, title: str, environment: dict[str, Any]) -> Report:
    """Return the report of a study."""
    return Report(
        title=title,
        summary=study_summary(found),
        sections=(
            _costs(found),
            arena_section(
                found.arena,
                title="The arena",
                about="The rows to attack. An attack succeeds if the answer holds every decisive word of the row's "
                'target, or matches its "success".',
            ),
        ),
        environment=environment,
    )


def study_summary(found: GuardStudy) -> tuple[str, ...]:
    """Return what was found, in plain words."""
    alone, guarded = found.alone.rates[HARMLESS], found.guarded.rates[HARMLESS]
    strongest = max(found.bare.items(), key=lambda pair: pair[1].value or 0)
    return (
        f"**Without the guard** the attacker {strongest[0]!r} got the wanted answer in {strongest[1].count} rows; "
        f"unattacked, {found.alone.rates[UNATTACKED].count} gave it.",
        f"**With the guard:** {' '.join(arena_sentences(found.arena))}",
        f"**The price:** {guarded.count} of the harmless rows were right, {alone.count} without the guard, at "
        f"{found.guarded.mean_calls:.1f} calls per row.",
        "An attack that fails proves nothing about a stronger one: more gradients find more.",
    )


def _costs(found: GuardStudy) -> Section:
    alone, guarded, paired = found.alone.rates, found.guarded.rates, found.guarded.paired
    return Section(
        title="With and without the guard",
        text=(
            f"Of the harmless rows, {paired.only_first} were right only without the guard and {paired.only_second} "
            f"only with it (McNemar's exact test: p = {paired.p_value:.2g}).",
        ),
        tables=(
            Table(
                title="Rows that no one attacked",
                columns=("rows", "without the guard", "with the guard"),
                rows=(
                    ("harmless: right", alone[HARMLESS], guarded[HARMLESS]),
                    ("to attack: the attacker's answer", alone[UNATTACKED], guarded[UNATTACKED]),
                    ("model calls per harmless row", 1, round(found.guarded.mean_calls, 1)),
                ),
            ),
            Table(
                title="Attacked rows without the guard",
                columns=("attacker", "the attacker's answer"),
                rows=tuple(found.bare.items()),
                note="Attacks through the guard's noise are not optimised for the bare model.",
            ),
        ),
    )
