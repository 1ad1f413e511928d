"""The study's attacks: which, with what budget, through what; run in workers and kept as 8-bit PNG files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch

from benchmarks.study.tasks import target_of
from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.attacks import EOTPGD, PGD, StraightThrough, Transform
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import GuardView, image_perturber
from smoothguard_guardrail.evaluation.attacked_images import read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import Mapper
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.media.image import encode_image
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import Compose, GaussianNoise

Surrogate = Literal["exact", "straight-through"]
Pair = tuple[Item, Path]
"""What is attacked, and where its picture goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One way to attack a picture. `epsilon` in 255ths, linf."""

    epsilon: int
    num_steps: int
    config: SmoothGuardConfig | None = None
    """The guard whose perturbation the gradient goes through; None: the bare model, which `num_draws` is 1 for."""
    num_draws: int = 1
    surrogate: Surrogate = "exact"
    """`straight-through`: clipping passes the gradient as if it did nothing (BPDA)."""
    random_start: bool = False
    seed: int = 0
    batch: int = 1
    """Pictures at once."""

    @property
    def evaluations(self) -> int:
        """Gradients per picture."""
        return self.num_steps * self.num_draws

    @property
    def name(self) -> str:
        """What its pictures depend on, as the name of a folder."""
        parts = [f"{self.epsilon}", f"{self.num_steps}x{self.num_draws}", f"seed{self.seed}"]
        if self.random_start:
            parts.append("random-start")
        if self.config is not None:
            parts += [self.surrogate, perturbation_name(self.config)]
        return "-".join(parts)


def perturbation_name(config: SmoothGuardConfig) -> str:
    """Return what an adaptive attack depends on of a configuration."""
    knobs = (config.sigma, config.noise_space, config.image.low_pass, config.image.max_shift, config.image.resize_range)
    return "-".join(str(knob).replace(" ", "") for knob in knobs)


def attack_items(attack: Attack, items: Sequence[Item], folder: Path, mapper: Mapper) -> tuple[Item, ...]:
    """Attack every item's picture; returns the items with the adversarial pictures, as a user would load them.

    Pictures that the folder holds already are not attacked again.
    """
    found = stored_images(items, folder / attack.name, mapper, partial(_attack, attack), batch=attack.batch)
    for item, new in zip(items, found, strict=True):
        _check(attack, item, new)
    return found


def stored_images(
    items: Sequence[Item], folder: Path, mapper: Mapper, make: Callable[[Sequence[Pair]], None], *, batch: int
) -> tuple[Item, ...]:
    """Return the items with the pictures that a folder keeps of them, after making those that are missing.

    Args:
        items: What the pictures are made of.
        folder: Keeps them.
        mapper: Where they are made.
        make: Writes the files of a few pairs of an item and a path; other processes have to be able to import it.
        batch: Most pairs at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = tuple(_with_picture(item, folder / _file_name(item)) for item in items)
    pairs = [(item, new.media[0]) for item, new in zip(items, found, strict=True) if not new.media[0].exists()]
    for _ in mapper(make, [pairs[start : start + batch] for start in range(0, len(pairs), batch)]):
        pass
    return found


def _check(attack: Attack, item: Item, new: Item) -> None:
    """Measure the bound from the two files: what was kept may be of something else."""
    change = (read_image(new.media[0]) - read_image(item.media[0])).abs().max() * 255
    if change > attack.epsilon + 1e-3:
        raise RuntimeError(
            f"{new.media[0]} is {change:.0f} levels from {item.media[0]}: delete the folder and run again"
        )


def _attack(attack: Attack, pairs: Sequence[Pair]) -> None:
    """Attack a few pictures and save them; runs in a worker process."""
    model = load_reference()
    options: dict[str, Any] = {
        "num_steps": attack.num_steps,
        "random_start": attack.random_start,
        "seed": attack.seed,
    }
    search = (
        PGD(attack.epsilon / 255, **options)
        if attack.config is None
        else EOTPGD(
            attack.epsilon / 255,
            transform=through(attack.config, attack.surrogate),
            step_size=attack.epsilon / 255 / 8,
            momentum=0.9,
            step_decay=True,
            num_draws=attack.num_draws,
            **options,
        )
    )
    items = [item for item, _ in pairs]
    result = search(
        model,
        torch.stack([read_image(item.media[0]) for item in items]),
        [item.question for item in items],
        [target_of(item) for item in items],
    )
    for (_, path), picture in zip(pairs, result.images, strict=True):
        path.write_bytes(encode_image(picture))


def through(config: SmoothGuardConfig, surrogate: Surrogate = "exact") -> Transform:
    """Return a guard's perturbation as an attack goes through it."""
    facts = ModelInfo.of(load_reference())
    if surrogate == "exact":
        return GuardView(config=config, model_info=facts)
    perturb = image_perturber(config, facts)
    unclipped = tuple(
        replace(part, bounds=(-torch.inf, torch.inf)) if isinstance(part, GaussianNoise) else part
        for part in perturb.parts
    )
    return StraightThrough(perturb, surrogate=Compose(unclipped))


def random_signs(items: Sequence[Item], epsilon: int, folder: Path) -> tuple[Item, ...]:
    """Change every value by epsilon 255ths in a random direction: the control of an attack of that size."""
    generator = torch.Generator().manual_seed(0)
    folder = folder / f"random-signs-{epsilon}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for item in items:
        pixels = read_image(item.media[0])
        signs = torch.randint(0, 2, pixels.shape, generator=generator) * 2.0 - 1
        changed = _with_picture(item, folder / _file_name(item))
        changed.media[0].write_bytes(encode_image((pixels + epsilon / 255 * signs).clamp(0, 1)))
        found.append(changed)
    return tuple(found)


def load_reference() -> ChatTransformersMultimodal:
    """Return the shipped model: the one that this process asks, too."""
    return cast("ChatTransformersMultimodal", resolve_model("reference"))


def _file_name(item: Item) -> str:
    """Name a kept picture by its original, too: tasks on other scenes have the same ids."""
    return f"{item.id.replace('/', '-')}-{file_sha256(item.media[0])[:12]}.png"


def _with_picture(item: Item, path: Path) -> Item:
    return item.model_copy(update={"media": (path,)})
