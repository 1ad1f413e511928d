"""Perturbed copies of an image, made as the guard makes them."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from PIL import Image

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.media import resize

Resolution = Literal["auto", "legible"] | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One cell of the grid.

    Args:
        sigma: Standard deviation of the noise on pixels in [0, 1]; 0: the image is resized and nothing else.
        max_shift: In pixels.
        resolution: As in `ImageConfig`.
        model_info: What the guard knows of the model.
    """

    sigma: float
    max_shift: int = 0
    resolution: Resolution = "auto"
    model_info: ModelInfo = field(default_factory=ModelInfo)

    def copies(self, image: torch.Tensor, num_copies: int, *, seed: int) -> Iterator[list[torch.Tensor]]:
        """Yield copies of an image, each in the bands that the model gets.

        Args:
            image: Float32 (3, height, width) in [0, 1].
            num_copies: One is enough where sigma and shift are 0.
            seed: Of the noise.
        """
        image_config = {"max_shift": self.max_shift, "resolution": self.resolution}
        config = SmoothGuardConfig().override(sigma=self.sigma or 1.0, image=image_config)
        view = ModelInput(config=config, model_info=self.model_info)
        size = view.image_size(image.shape[-2], image.shape[-1], {})
        fitted, bands = resize(image, size), view.bands(*size, {})
        along = 1 if size[0] >= size[1] else 2
        perturb = view.image_perturber(size) if self.sigma else None
        generator = torch.Generator().manual_seed(seed)
        for _ in range(num_copies):
            copy = perturb(fitted[None], generator=generator)[0] if perturb else fitted
            yield [copy.narrow(along, start, stop - start) for start, stop in bands]


def grid(options: argparse.Namespace) -> list[Setting]:
    """Return the cells that the options name, and one without noise per resolution."""
    cells = itertools.product(options.resolutions, [0.0, *options.sigmas], options.shifts)
    settings = [Setting(sigma=sigma, max_shift=shift, resolution=size) for size, sigma, shift in cells]
    return [each for each in settings if each.sigma or each.max_shift == options.shifts[0]]


def add_grid_options(parser: argparse.ArgumentParser, *, resolutions: Sequence[Resolution]) -> None:
    """Add the options of the grid, and the number of copies."""
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.02, 0.03, 0.05, 0.075, 0.1])
    parser.add_argument("--shifts", type=int, nargs="+", default=[5])
    parser.add_argument("--resolutions", type=resolution, nargs="+", default=list(resolutions))
    parser.add_argument("--num-copies", type=int, default=8)


def resolution(text: str) -> Resolution:
    """Read `auto`, `legible`, `own` (the image's own size) or a number of pixels."""
    named: dict[str, Resolution] = {"auto": "auto", "legible": "legible", "own": None}
    return named[text] if text in named else int(text)


def winner(answers: Sequence[Hashable]) -> Hashable | None:
    """Return what at least half of the copies answered, as the default vote does; None if there is none."""
    ranked = Counter(answers).most_common(2)
    tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    return None if tied or ranked[0][1] < len(answers) / 2 else ranked[0][0]


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return an image as float32 (3, height, width) in [0, 1]."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def to_image(values: torch.Tensor) -> Image.Image:
    """Return float32 (3, height, width) in [0, 1] as an 8-bit image, which is what a provider gets."""
    return Image.fromarray((values * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
