"""Runs the study's arms: attacks, asks and counts, and keeps everything in one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.study.attacks import adaptive_attack
from benchmarks.study.design import NUM_COPIES, Budget, Scale
from benchmarks.study.tasks import Tasks, is_leak, make_tasks, target_of
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arms import Arm, run_arms, with_media
from smoothguard_guardrail.evaluation.attacked_images import AttackSettings, attack_items
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.mappers import Mapper
from smoothguard_guardrail.evaluation.replay import CopyAnswers, ask_copies
from smoothguard_guardrail.evaluation.statistics import Rate

MODEL = "reference"
SEED = 0
TEST_SCENES, SELECTION_SCENES = 1_000, 50_000
"""Seeds of the scenes that results are told of, and of those that the default was chosen on."""

Judgement = Callable[[Item, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One step of a ladder of budgets."""

    evaluations: int
    """Gradients spent so far on each picture that still stood."""
    lost: Rate
    """Pictures that the guard has lost so far."""
    leak_rate: float | None
    """Share of the perturbed copies of all pictures, as this rung left them, that make the model tell; None without a
    guard. It depends on no vote, and no try adds to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """An attack that grows until it succeeds or its budget ends."""

    rungs: tuple[Rung, ...]
    items: tuple[Item, ...]
    """Every picture as the last attack on it left it."""
    fallen: frozenset[str]
    """Ids of the pictures that the guard has lost."""


@dataclass(slots=True, kw_only=True)
class Study:
    """One run.

    Attributes:
        folder: Keeps pictures and answers, so that a run that was stopped goes on where it was.
        scale: How much is measured.
        mapper: Where it runs.
        calls: Model calls of every guarded request so far, by guard.
    """

    folder: Path
    scale: Scale
    mapper: Mapper
    calls: dict[str, list[int]] = field(default_factory=dict)

    def tasks(self, scenes: int = TEST_SCENES) -> Tasks:
        """Return the tasks on scenes of a seed."""
        return make_tasks(self.folder / "tasks" / str(scenes), self.scale.items, seed=scenes)

    def attacked(self, attack: AttackSettings, items: Sequence[Item], *, batch_size: int = 1) -> tuple[Item, ...]:
        """Return the items with adversarial images, aimed at what an attacker wants to hear."""
        aimed = [item.model_copy(update={"details": {**item.details, "target": target_of(item)}}) for item in items]
        folder = self.folder / "attacked"
        files = attack_items(
            MODEL, aimed, attack, folder=folder, mapper=self.mapper, shares_folder=True, batch_size=batch_size
        )
        return with_media(items, files)

    def ask(self, name: str, items: Sequence[Item], config: SmoothGuardConfig | None) -> dict[str, Answer]:
        """Return the answers through a guard, or of the bare model, by item."""
        arm = Arm(name=name, items=tuple(items), config=config)
        answers = run_arms(MODEL, [arm], folder=self.folder, mapper=self.mapper, seed=SEED)[name]
        failed = [answer for answer in answers.values() if answer.error is not None]
        if failed:
            raise RuntimeError(f"{len(failed)} questions failed, as {failed[0].error}")
        if config is not None:
            self.calls.setdefault(name, []).extend(answer.num_calls for answer in answers.values())
        return answers

    def rate(
        self, name: str, items: Sequence[Item], config: SmoothGuardConfig | None, judged: Judgement = is_leak
    ) -> Rate:
        """Return the share of the items whose answer is judged true."""
        answers = self.ask(name, items, config)
        return Rate.of(judged(item, answers[item.id].text) for item in items)

    def copies(
        self, config: SmoothGuardConfig, items: Sequence[Item], *, num_copies: int = NUM_COPIES
    ) -> list[CopyAnswers]:
        """Return the answers to perturbed copies of every item, and to the item as it is."""
        return ask_copies(MODEL, config, items, num_copies=num_copies, seed=SEED, with_clean=True, mapper=self.mapper)

    def leak_rate(self, config: SmoothGuardConfig, items: Sequence[Item]) -> float:
        """Return the share of the items' perturbed copies that make the model tell."""
        copies = self.copies(config, items)
        told = [is_leak(item, text or "") for item, row in zip(items, copies, strict=True) for text in row.answers]
        return sum(told) / len(told)

    def climb(
        self,
        name: str,
        items: Sequence[Item],
        config: SmoothGuardConfig | None,
        budgets: Iterable[Budget],
        attack: AttackSettings | None = None,
    ) -> Climb:
        """Attack pictures with growing budgets, each a fresh start, until the guard loses them.

        The attacker may try each picture on the guard after every rung, and goes on with those that did not work.

        Args:
            name: Name of the guard.
            items: The pictures.
            config: The guard; None: the bare model.
            budgets: Steps and draws of each rung.
            attack: How to attack; None: through the guard's own perturbation, every step of it with its own gradient.
        """
        attack = attack or adaptive_attack(config)
        last = {item.id: item for item in items}
        standing, spent = list(items), 0
        rungs = []
        for number, (num_steps, num_draws) in enumerate(budgets):
            changes = {"num_steps": num_steps, "num_draws": num_draws, "random_start": number > 0}
            rung = attack.model_copy(update=changes | {"seed": attack.seed + number})
            spent += num_steps * rung.draws_per_step
            if standing:
                found = self.attacked(rung, standing)
                last |= {item.id: item for item in found}
                answers = self.ask(name, found, config)
                originals = {item.id: item for item in standing}
                standing = [originals[item.id] for item in found if not is_leak(item, answers[item.id].text)]
            lost = Rate(k=len(items) - len(standing), n=len(items))
            leak_rate = None if config is None else self.leak_rate(config, tuple(last.values()))
            rungs.append(Rung(evaluations=spent, lost=lost, leak_rate=leak_rate))
        fallen = frozenset(last) - {item.id for item in standing}
        return Climb(rungs=tuple(rungs), items=tuple(last.values()), fallen=fallen)
