"""Covers windows of images, such that a patch anywhere in the image lies within one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from smoothguard_guardrail.errors import ConfigurationError

Window = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


@dataclass(frozen=True, slots=True)
class CoverWindows:
    """Paints windows of each copy grey: a perturber for `GuardComponents(image_perturber=...)`, without any randomness.

    Args:
        windows: For each copy of the batch, in order, the windows to cover.

    Raises:
        ConfigurationError: When called, if the batch has another number of copies.

    Example:
        >>> covered = CoverWindows([[(0, 0, 1, 2)]])(torch.zeros(1, 3, 2, 2), generator=torch.Generator())
        >>> covered[0, 0].tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """

    windows: Sequence[Sequence[Window]]

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Cover float32 (num_samples, 3, height, width) in [0, 1]."""
        if len(batch) != len(self.windows):
            raise ConfigurationError(
                f"expected {len(self.windows)} copies, one for each set of windows, got {len(batch)}"
            )
        covered = batch.clone()
        for copy, windows in zip(covered, self.windows, strict=True):
            for top, left, height, width in windows:
                copy[:, top : top + height, left : left + width] = 0.5
        return covered


def covering_windows(size: tuple[int, int], patch: tuple[int, int], per_axis: int) -> list[Window]:
    """Return windows such that every patch of a size lies within one of them.

    Args:
        size: Height and width of the image in pixels.
        patch: Height and width of the largest patch in pixels.
        per_axis: Windows along each axis; fewer where fewer are enough.

    Raises:
        ConfigurationError: If the patch is empty or larger than the image, or `per_axis` is below 1.

    Example:
        >>> covering_windows((6, 6), (2, 2), 2)[:2]
        [(0, 0, 4, 4), (0, 2, 4, 4)]

    Source: Xiang et al. 2022, PatchCleanser (arXiv 2108.09135), the R-covering mask set of section 3.3.
    """
    if per_axis < 1 or not all(1 <= p <= s for p, s in zip(patch, size, strict=True)):
        raise ConfigurationError(
            f"a patch of {patch[0]} x {patch[1]} pixels must fit the image of {size[0]} x {size[1]}, and per_axis be at"
            f" least 1, got {per_axis}"
        )
    rows, columns = (_spans(length, extent, per_axis) for length, extent in zip(size, patch, strict=True))
    return [(top, left, height, width) for top, height in rows for left, width in columns]


def _spans(length: int, patch: int, number: int) -> list[tuple[int, int]]:
    """Return start and extent of windows along one axis: consecutive ones overlap by a patch less one pixel."""
    stride = math.ceil((length - patch + 1) / number)
    extent = min(length, patch + stride - 1)
    starts = range(0, length - patch + 1, stride)
    return [(min(start, length - extent), extent) for start in starts]
