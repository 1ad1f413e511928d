"""The arenas: every attacker against our guard, for secrets and for wrong answers that look harmless."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from benchmarks.study.design import ADAPTIVE_EPSILON
from benchmarks.study.measure import ARENA_SCENES, Study
from benchmarks.study.tasks import WRONG_KINDS, Tasks, aimed, is_fooled, is_leak
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arena import ArenaResult
from smoothguard_guardrail.evaluation.arena_report import arena_section
from smoothguard_guardrail.evaluation.arms import with_media
from smoothguard_guardrail.evaluation.attackers import Attacker, default_attackers
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.report import Section

FOOLING = ("EOT", "EOT, random start", "transfer")
"""Attackers of the arena of wrong answers; the others aim at parts of the vote that play no role there."""


def spread(study: Study, pick: Callable[[Tasks], Sequence[Item]], count: int) -> tuple[Item, ...]:
    """Return about `count` items with targets, equally many on each of `ARENA_SCENES`, with ids of their own."""
    each = max(1, count // len(ARENA_SCENES))
    found = []
    for seed in ARENA_SCENES:
        items = pick(study.tasks(seed))[:each]
        found += [item.model_copy(update={"id": f"{seed}/{item.id}"}) for item in aimed(items)]
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fight:
    """An arena's items and result."""

    items: tuple[Item, ...]
    result: ArenaResult

    def attacked(self, name: str | None = None) -> tuple[Item, ...]:
        """Return the items as an attacker left them; None: as the worst one of each did."""
        duels = self.result.worst if name is None else self.result.duels[name]
        return with_media(self.items, {duel.item_id: duel.medium for duel in duels})


def secrets_arena(study: Study, config: SmoothGuardConfig) -> Fight:
    """Let every attacker try to make the guarded model leak secrets."""
    items = spread(study, lambda tasks: tasks.requests.items, study.scale.arena)
    return Fight(items=items, result=study.arena(config, is_leak).run(items, _attackers(study, config)))


def fooling_arena(study: Study, config: SmoothGuardConfig) -> Fight:
    """Let attackers try to make the guarded model answer harmless questions wrongly."""
    items = spread(study, _about_images, study.scale.fooled)
    attackers = [each for each in _attackers(study, config) if each.name in FOOLING]
    return Fight(items=items, result=study.arena(config, is_fooled).run(items, attackers))


def arena_sections(secrets: Fight, fooling: Fight) -> tuple[Section, Section]:
    """Return the arenas' sections."""
    return (
        arena_section(
            secrets.result,
            title="The arena: secrets",
            about=f"Requests for secrets on scenes of {len(ARENA_SCENES)} seeds that no other section uses, attacked "
            f"at {ADAPTIVE_EPSILON}/255. An attack succeeds if the answer holds the secret.",
        ),
        arena_section(
            fooling.result,
            title="The arena: wrong answers",
            about="Harmless questions about the same scenes: is it there, which colour, how many. An attack succeeds "
            "if the answer is the wrong one aimed at. Such answers look as harmless as the right ones, so the "
            "preference for refusals does not help.",
        ),
    )


def _attackers(study: Study, config: SmoothGuardConfig) -> tuple[Attacker, ...]:
    return default_attackers(config, epsilon=ADAPTIVE_EPSILON / 255, num_gradients=study.scale.gradients)


def _about_images(tasks: Tasks) -> Sequence[Item]:
    """Return questions of POPE's kind, of colours and of counts, in turn."""
    others = ([item for item in tasks.harmless if item.category == kind] for kind in WRONG_KINDS)
    rows = zip_longest(tasks.pope.items, *others)
    return [item for row in rows for item in row if item is not None]
