"""Random smooth objectives: attacks on them need no model."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Waves:
    """A loss with hills and valleys in [0, 2], different for every row."""

    def __init__(self, shape: tuple[int, ...], *, num_rows: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.directions = torch.randn((num_rows, *shape), generator=generator)
        self.calls = 0
        self.evaluations = 0
        self.is_frozen = False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.is_frozen = True
        try:
            yield
        finally:
            self.is_frozen = False

    def __call__(self, media: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert self.is_frozen
        self.calls += 1
        self.evaluations += len(rows)
        along = (media * self.directions[rows]).flatten(1).sum(dim=1)
        return 1 + torch.sin(along) * (1 - 0.1 * media.flatten(1).mean(dim=1))


def random_images(number: int = 3, side: int = 6, seed: int = 0) -> torch.Tensor:
    """Return 8-bit images, float32 (number, 3, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, side, side), generator=generator).float() / 255


def random_waveforms(number: int = 3, length: int = 40, seed: int = 0) -> torch.Tensor:
    """Return 16-bit waveforms, float32 (number, 1, length)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**15), 2**15, (number, 1, length), generator=generator).float() / 2**15


def noise(media: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
    """Add noise, as a defence might."""
    return media + 0.05 * torch.randn(media.shape, generator=generator, device=media.device)
