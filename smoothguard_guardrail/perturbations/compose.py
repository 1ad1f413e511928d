"""Perturbers in sequence, and the default image perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothguard_guardrail.perturbations.geometry import RandomResize, RandomShift
from smoothguard_guardrail.perturbations.low_pass import LowPass
from smoothguard_guardrail.perturbations.noise import GaussianNoise
from smoothguard_guardrail.perturbations.rotation import RandomRotation

if TYPE_CHECKING:
    import torch

    from smoothguard_guardrail.protocols import Perturber


@dataclass(frozen=True, slots=True)
class Compose:
    """Applies perturbers one after another, all with the same generator.

    Args:
        parts: Perturbers in order of application; an empty tuple is the identity.

    Example:
        >>> Compose((RandomShift(2), GaussianNoise(0.1)))
        Compose(parts=(RandomShift(max_shift=2), GaussianNoise(sigma=0.1, bounds=(0.0, 1.0))))
    """

    parts: tuple[Perturber, ...]

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the batch after all parts."""
        for part in self.parts:
            batch = part(batch, generator=generator)
        return batch


def build_perturber(
    *,
    sigma: float | Sequence[float],
    low_pass: float = 0.0,
    max_shift: int = 0,
    max_rotation: float = 0.0,
    resize_range: tuple[float, float] | None = None,
) -> Compose:
    """Return the image perturbation: resize, rotation, shift, noise, clip to [0, 1], low-pass; each can be off.

    It takes and returns float32 (num_samples, 3, height, width) in [0, 1]. It is differentiable, so an adaptive attack
    differentiates through the same code. With everything off it returns its argument.

    Args:
        sigma: Standard deviation of the noise in units of [0, 1] pixels: one for all channels or one per channel (see
            `channel_sigma`).
        low_pass: Standard deviation of the low-pass kernel in pixels; 0 is off.
        max_shift: Largest random shift in pixels; 0 is off.
        max_rotation: Largest random rotation in degrees; 0 is off.
        resize_range: Smallest and largest factor of the random resize; None is off.

    Raises:
        ConfigurationError: If a value is out of range.

    Example:
        >>> perturb = build_perturber(sigma=0.1, low_pass=0.8, max_shift=2)
        >>> [type(part).__name__ for part in perturb.parts]
        ['RandomShift', 'GaussianNoise', 'LowPass']
    """
    resize = () if resize_range is None else (RandomResize(*resize_range),)
    rotation, shift = RandomRotation(max_rotation), RandomShift(max_shift)
    noise, smooth = GaussianNoise(sigma), LowPass(low_pass)
    return Compose(
        (
            *resize,
            *((rotation,) if max_rotation else ()),
            *((shift,) if max_shift else ()),
            noise,
            *((smooth,) if low_pass else ()),
        )
    )
