"""Gaussian noise, and the units of its strength."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from smoothguard_guardrail.errors import ConfigurationError

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per-channel std of CLIP's processor; most vision encoders use these values or close ones."""

MIN_AUDIO_SIGMA = 1e-4
"""Smallest sd of the noise on audio, in units of [-1, 1]: three steps of 16-bit audio, so that encoding keeps it."""


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """Adds independent Gaussian noise to every value, then clips.

    Takes (num_samples, channels, ...) of any float dtype and returns a new tensor of that shape. The batch is not
    changed, so it may be one medium expanded to many copies. Differentiable with respect to the batch.

    Args:
        sigma: Standard deviation in units of the values: one for all channels, or one per channel. 0 is the identity.
        bounds: Smallest and largest value of the result: (0, 1) for images, (-1, 1) for waveforms.

    Raises:
        ConfigurationError: If sigma is negative or not finite, or the bounds are not in order; when called, if the
            number of sigmas is neither one nor the batch's number of channels.

    Example:
        >>> batch = torch.full((4, 3, 8, 8), 0.5)
        >>> GaussianNoise(0.1)(batch, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """

    sigma: float | Sequence[float]
    bounds: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        values = (self.sigma,) if isinstance(self.sigma, (int, float)) else tuple(self.sigma)
        if not values or not all(math.isfinite(value) and value >= 0 for value in values):
            raise ConfigurationError(f"sigma must be finite and at least 0, got {self.sigma}")
        if not self.bounds[0] < self.bounds[1]:
            raise ConfigurationError(f"bounds must be (low, high) with low < high, got {self.bounds}")

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the noisy batch, in one buffer of the batch's size."""
        sigma = self._per_channel(batch)
        if isinstance(sigma, float) and sigma == 0:
            return batch
        noisy = torch.empty_like(batch, memory_format=torch.contiguous_format, requires_grad=False)
        noisy.normal_(generator=generator)
        return noisy.mul_(sigma).add_(batch).clamp_(*self.bounds)

    def _per_channel(self, batch: torch.Tensor) -> float | torch.Tensor:
        if isinstance(self.sigma, (int, float)):
            return float(self.sigma)
        if len(set(self.sigma)) == 1:
            return float(self.sigma[0])
        if len(self.sigma) != batch.shape[1]:
            raise ConfigurationError(f"expected one sigma or one per channel ({batch.shape[1]}), got {len(self.sigma)}")
        column = torch.tensor(tuple(self.sigma), dtype=batch.dtype, device=batch.device)
        return column.reshape(-1, *[1] * (batch.ndim - 2))


def channel_sigma(
    sigma: float, noise_space: Literal["pixel", "normalized"], image_std: Sequence[float] | None = None
) -> tuple[float, float, float]:
    """Return the noise's standard deviation per colour channel, in units of [0, 1] pixels.

    The authors add noise to pixel values that the processor has divided by `image_std`; their sigma of 0.1 is about
    0.027 in pixels.

    Args:
        sigma: Standard deviation in units of `noise_space`.
        noise_space: `pixel`: of values in [0, 1]. `normalized`: of values divided by `image_std`.
        image_std: The model's three divisors; None: `CLIP_STD`, e.g. for an unknown model.

    Raises:
        ConfigurationError: If sigma is negative, the space is unknown, or `image_std` is not three positive numbers.

    Example:
        >>> channel_sigma(0.1, "normalized", (0.5, 0.5, 0.5))
        (0.05, 0.05, 0.05)
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ConfigurationError(f"sigma must be finite and at least 0, got {sigma}")
    if noise_space == "pixel":
        return (sigma, sigma, sigma)
    if noise_space != "normalized":
        raise ConfigurationError(f"noise_space must be 'pixel' or 'normalized', got {noise_space!r}")
    std = CLIP_STD if image_std is None else tuple(map(float, image_std))
    if len(std) != 3 or not all(math.isfinite(value) and value > 0 for value in std):
        raise ConfigurationError(f"image_std must be three positive numbers, got {image_std}")
    return (sigma * std[0], sigma * std[1], sigma * std[2])


def snr_sigma(waveform: torch.Tensor, snr_db: float) -> float:
    """Return the standard deviation of noise with this signal-to-noise ratio to a waveform.

    It is never below `MIN_AUDIO_SIGMA`: silence has no signal-to-noise ratio, and on very quiet audio the noise would
    be rounded away by encoding, so the model would get unguarded audio.

    Args:
        waveform: (channels, samples) or (num_samples, channels, samples), float in [-1, 1].
        snr_db: Ratio of the waveform's rms to the noise's standard deviation, in dB.

    Raises:
        ConfigurationError: If `snr_db` is not finite.

    Example:
        >>> round(snr_sigma(torch.full((1, 100), 0.5), 20.0), 3)
        0.05
    """
    if not math.isfinite(snr_db):
        raise ConfigurationError(f"snr_db must be finite, got {snr_db}")
    rms = float(waveform.detach().square().mean().sqrt()) if waveform.numel() else 0.0
    return max(rms * 10 ** (-snr_db / 20), MIN_AUDIO_SIGMA)
