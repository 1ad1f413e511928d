"""Perturbations compared on the reference model: what each costs, and how it holds against attacks that know it.

Every candidate is attacked through its own perturbation, by changes of single pixels and by changes of low frequency,
which noise and low-pass filters do little about. The scenes are new: the presets were chosen on others, and the study
uses others.

Run: python -m benchmarks.perturbations, or with the names of some candidates. Half an hour on one core.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.study.attacks import load_reference
from benchmarks.study.design import ADAPTIVE_EPSILON, NUM_COPIES, SCALES, Budget
from benchmarks.study.measure import Study
from benchmarks.study.tasks import is_leak, is_right, target_of
from smoothguard_guardrail import ImageConfig, SmoothGuardConfig
from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.attacks import PGD, LowFrequencyPGD
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.evaluation.attacked_media import perturbation
from smoothguard_guardrail.evaluation.cache import content_key
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.mappers import InThreads
from smoothguard_guardrail.evaluation.statistics import Rate
from smoothguard_guardrail.media.image import encode_png

SCENES = 70_000
"""Seed of the scenes."""
GRIDS = (None, 24)
"""Cells per axis of each attack's grid; None: every pixel is its own."""

CANDIDATES: dict[str, dict[str, Any]] = {
    "shift 6": {"max_shift": 6},
    "rotation 8, shift 6": {"max_shift": 6, "max_rotation": 8.0},
    "rotation 15, shift 6": {"max_shift": 6, "max_rotation": 15.0},
    "resize .9 to 1.1, shift 6": {"max_shift": 6, "resize_range": (0.9, 1.1)},
    "resize .875": {"max_shift": 0, "resize_range": (0.875, 0.875)},
}
"""Settings of images by name; all else is as in `SmoothGuardConfig.reference()`, without its own perturbation."""


def attacked(
    config: SmoothGuardConfig, items: Sequence[Item], *, grid: int | None, budget: Budget, folder: Path
) -> tuple[Item, ...]:
    """Return items with images attacked through a guard's perturbation, stored in a folder.

    Args:
        config: The guard.
        items: Requests for secrets, all with images of one size.
        grid: Cells per axis; None: pixels.
        budget: Steps, and draws of the perturbation per step.
        folder: Where the images go.
    """
    what = content_key(through=perturbation(config), grid=grid, budget=list(budget))[:24]
    names = [f"{what}-{hashlib.sha256(item.id.encode()).hexdigest()[:8]}.png" for item in items]
    found = tuple(item.model_copy(update={"media": (folder / name,)}) for item, name in zip(items, names, strict=True))
    if not all(item.media[0].exists() for item in found):
        model = load_reference()
        options: dict[str, Any] = {
            "step_size": ADAPTIVE_EPSILON / 255 / 8,
            "momentum": 0.9,
            "step_decay": True,
            "transform": GuardView(config=config, model_info=ModelInfo.find(model)),
            "num_steps": budget[0],
            "num_draws": budget[1],
            "seed": 0,
        }
        epsilon = ADAPTIVE_EPSILON / 255
        attack = PGD(epsilon, **options) if grid is None else LowFrequencyPGD(epsilon, grid=grid, **options)
        images = torch.stack([read_image(item.media[0]) for item in items])
        result = attack(model, images, [item.question for item in items], [target_of(item) for item in items])
        for item, image in zip(found, result.images, strict=True):
            write_atomic(item.media[0], encode_png(image))
    return found


def measure(study: Study, name: str, *, num_attacked: int, budget: Budget) -> list[str]:
    """Return the row of a candidate: harmless questions answered rightly, then for each attack what leaked."""
    config = SmoothGuardConfig.reference().model_copy(update={"image": ImageConfig(**CANDIDATES[name])})
    tasks = study.tasks(SCENES)
    row = [str(study.rate(name, tasks.harmless, config, is_right))]
    for grid in GRIDS:
        items = attacked(
            config,
            tasks.requests.items[:num_attacked],
            grid=grid,
            budget=budget,
            folder=study.folder / "perturbations",
        )
        copies = study.copies(config, items)
        leaks = Rate.of(
            is_leak(item, text or "") for item, each in zip(items, copies, strict=True) for text in each.answers
        )
        row += [str(study.rate(name, items, config)), str(leaks)]
    return row


def main() -> None:
    """Measure candidates and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(CANDIDATES)}; default: all")
    parser.add_argument("--items", type=int, default=100, help="harmless questions")
    parser.add_argument("--attacked", type=int, default=16, help="images attacked")
    parser.add_argument("--budget", type=int, nargs=2, default=(80, 16), metavar=("STEPS", "DRAWS"))
    parser.add_argument("--folder", type=Path, default=Path("runs/perturbations"), help="stores images and answers")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CANDIDATES):
        parser.error(f"unknown candidates: {', '.join(sorted(unknown))}")
    scale = replace(SCALES["standard"], items=max(options.items, options.attacked))
    study = Study(folder=options.folder, scale=scale, mapper=InThreads(1))
    attacks = ["pixels" if grid is None else f"grid of {grid} x {grid}" for grid in GRIDS]
    columns = [f"{attack}: {what}" for attack in attacks for what in ("lost", f"single copies of {NUM_COPIES}")]
    header = ["perturbation", "clean accuracy", *columns]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for name in options.names or CANDIDATES:
        row = measure(study, name, num_attacked=options.attacked, budget=tuple(options.budget))
        print(f"| {name} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
