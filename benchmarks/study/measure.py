"""Runs the study's arms: attacks, asks and counts, and stores everything in one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.study.attacks import adaptive_attack
from benchmarks.study.design import NUM_COPIES, Budget, Scale
from benchmarks.study.tasks import Tasks, aimed, is_leak, make_tasks
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.arena import Arena
from smoothguard_guardrail.evaluation.arms import Arm, run_arms, with_media
from smoothguard_guardrail.evaluation.attacked_media import attack_items
from smoothguard_guardrail.evaluation.attackers import AttackSettings
from smoothguard_guardrail.evaluation.calibration.answer_store import AnswerStore
from smoothguard_guardrail.evaluation.identity import ModelIdentity, identify
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.mappers import Mapper
from smoothguard_guardrail.evaluation.replay import CopyAnswers
from smoothguard_guardrail.evaluation.statistics import Rate

MODEL = "reference"
SEED = 0
TEST_SCENES, SELECTION_SCENES = 1_000, 50_000
"""Seeds of the scenes for results, and of those for the choice of the default."""
ARENA_SCENES = (10_000, 11_000, 12_000, 13_000, 14_000)
"""Seeds of the scenes of the arenas."""

Judgement = Callable[[Item, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The result of one budget."""

    evaluations: int
    """Gradients spent so far on each image that the guard had not lost."""
    lost: Rate
    """Images that the guard has lost so far."""
    leak_rate: float | None
    """Share of perturbed copies of all images, as this stage left them, that leak; None without a guard. It depends on
    neither the vote nor the number of tries."""


@dataclass(kw_only=True)
class Study:
    """One run.

    Attributes:
        folder: Stores images and answers, so that a stopped run resumes.
        scale: Numbers of items and budgets.
        mapper: Runs the work.
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
        """Return the items with adversarial images, aimed at what an attacker wants."""
        files = attack_items(
            MODEL,
            aimed(items),
            attack,
            folder=self.folder / "attacked",
            mapper=self.mapper,
            identity=self.identity,
            shares_folder=True,
            batch_size=batch_size,
        )
        return with_media(items, files)

    def ask(self, name: str, items: Sequence[Item], config: SmoothGuardConfig | None) -> dict[str, Answer]:
        """Return the answers through a guard, or of the bare model, by item."""
        arm = Arm(name=name, items=tuple(items), config=config)
        answers = run_arms(MODEL, [arm], folder=self.folder, mapper=self.mapper, seed=SEED)[name]
        failed = [answer for answer in answers.values() if answer.error is not None]
        if failed:
            raise RuntimeError(f"{len(failed)} questions failed, the first with {failed[0].error}")
        if config is not None:
            self.calls.setdefault(name, []).extend(answer.num_calls for answer in answers.values())
        return answers

    def rate(
        self, name: str, items: Sequence[Item], config: SmoothGuardConfig | None, judged: Judgement = is_leak
    ) -> Rate:
        """Return the share of the items whose answer is judged true."""
        answers = self.ask(name, items, config)
        return Rate.of(judged(item, answers[item.id].text) for item in items)

    @cached_property
    def identity(self) -> ModelIdentity:
        """The identity of the model."""
        return identify(MODEL, memory=self.folder / "fingerprints.json")

    @cached_property
    def store(self) -> AnswerStore:
        """Asks about copies, and stores the answers."""
        return AnswerStore(
            MODEL, identity=self.identity, path=self.folder / "copies.jsonl", seed=SEED, mapper=self.mapper
        )

    def copies(
        self, config: SmoothGuardConfig, items: Sequence[Item], *, num_copies: int = NUM_COPIES
    ) -> list[CopyAnswers]:
        """Return the answers to perturbed copies of every item, and to the unperturbed item."""
        clean = self.store.clean(items, config)
        copies = self.store.copies(items, config, num_copies)
        return [record.model_copy(update={"clean": clean[record.item_id]}) for record in copies]

    def arena(self, config: SmoothGuardConfig, judged: Judgement) -> Arena:
        """Return an arena for a guard."""
        return Arena(self.store, config, folder=self.folder / "attacked", identity=self.identity, succeeded=judged)

    def leak_rate(self, config: SmoothGuardConfig, items: Sequence[Item]) -> float:
        """Return the share of the items' perturbed copies that leak."""
        copies = self.copies(config, items)
        leaked = [is_leak(item, text or "") for item, row in zip(items, copies, strict=True) for text in row.answers]
        return sum(leaked) / len(leaked)

    def escalate(
        self,
        name: str,
        items: Sequence[Item],
        config: SmoothGuardConfig | None,
        budgets: Iterable[Budget],
    ) -> tuple[Stage, ...]:
        """Attack images through a guard with growing budgets, each from a new start, until the guard loses them.

        After every stage the attacker tries each image on the guard, and continues with those that failed.

        Args:
            name: Name of the guard.
            items: The images.
            config: The guard; None: the bare model.
            budgets: Steps and draws of each stage.
        """
        attack = adaptive_attack(config)
        last = {item.id: item for item in items}
        remaining, spent = list(items), 0
        stages = []
        for number, (num_steps, num_draws) in enumerate(budgets):
            changes = {"num_steps": num_steps, "num_draws": num_draws, "random_start": number > 0}
            stage = attack.model_copy(update=changes | {"seed": attack.seed + number})
            spent += num_steps * stage.draws_per_step
            if remaining:
                found = self.attacked(stage, remaining)
                last |= {item.id: item for item in found}
                answers = self.ask(name, found, config)
                originals = {item.id: item for item in remaining}
                remaining = [originals[item.id] for item in found if not is_leak(item, answers[item.id].text)]
            lost = Rate(k=len(items) - len(remaining), n=len(items))
            leak_rate = None if config is None else self.leak_rate(config, tuple(last.values()))
            stages.append(Stage(evaluations=spent, lost=lost, leak_rate=leak_rate))
        return tuple(stages)
