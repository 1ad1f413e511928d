"""Random shifts, resizes and speeds: the part of a perturbation that an attacker cannot average away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from smoothguard_guardrail.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RandomShift:
    """Shifts every copy by a random number of whole pixels along each axis; edge pixels fill the gap.

    What leaves the image is lost; `RandomResize` by factors up to 1 moves copies and loses nothing. Takes and returns
    (num_samples, channels, height, width). Differentiable.

    Args:
        max_shift: Largest shift in pixels; shifts are uniform in [-max_shift, max_shift]. 0 is the identity.

    Raises:
        ConfigurationError: If `max_shift` is not an integer, or is negative.

    Example:
        >>> RandomShift(2)(torch.rand(4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """

    max_shift: int

    def __post_init__(self) -> None:
        if not isinstance(self.max_shift, int) or self.max_shift < 0:
            raise ConfigurationError(f"max_shift must be an integer of at least 0, got {self.max_shift!r}")

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the shifted copies."""
        if self.max_shift == 0:
            return batch
        limit = self.max_shift
        offsets = torch.randint(0, 2 * limit + 1, (len(batch), 2), generator=generator, device=batch.device)
        return torch.stack(
            [
                _window(_replicate(image, limit, limit, limit, limit), top, left, batch.shape[-2:])
                for image, (top, left) in zip(batch, offsets.tolist(), strict=True)
            ]
        )


@dataclass(frozen=True, slots=True)
class RandomResize:
    """Resizes every copy by a random factor and places it at random on a canvas of the original size.

    A smaller copy is padded with its own edge pixels, so all of it stays; a larger one is cropped. Takes and returns
    (num_samples, channels, height, width) in [0, 1]. Differentiable.

    Args:
        low: Smallest factor.
        high: Largest factor; factors are uniform in [low, high]. (1, 1) is the identity.

    Raises:
        ConfigurationError: If not 0 < low <= high.

    Example:
        >>> RandomResize(0.8, 1.0)(torch.rand(4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])

    Source: Xie et al. 2018, Mitigating adversarial effects through randomization, arXiv 1711.01991, section 3.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_factors("resize_range", self.low, self.high)

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the resized copies."""
        if self.low == self.high == 1:
            return batch
        draws = torch.rand((len(batch), 3), generator=generator, device=batch.device).tolist()
        return torch.stack([self._resize(image, *draw) for image, draw in zip(batch, draws, strict=True)])

    def _resize(self, image: torch.Tensor, scale: float, down: float, right: float) -> torch.Tensor:
        factor = self.low + scale * (self.high - self.low)
        height, width = image.shape[-2:]
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        resized = F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]
        top, bottom, skip_down = _place(size[0], height, down)
        left, far, skip_right = _place(size[1], width, right)
        return _window(_replicate(resized, top, bottom, left, far), skip_down, skip_right, (height, width))


@dataclass(frozen=True, slots=True)
class RandomSpeed:
    """Plays every copy at a random speed, which changes its pitch too, and places it at random in the old length.

    A faster copy is shorter, and silence fills the rest, so all of it stays; a slower one is cut. Values between
    samples are interpolated linearly. Takes and returns (num_samples, channels, samples) in [-1, 1]. Differentiable.

    Args:
        low: Smallest factor.
        high: Largest factor; factors are uniform in [low, high]. (1, 1) is the identity.

    Raises:
        ConfigurationError: If not 0 < low <= high.

    Example:
        >>> RandomSpeed(1.0, 1.15)(torch.rand(4, 1, 16000), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1, 16000])

    Source: Ko et al. 2015, Audio augmentation for speech recognition (Interspeech), which trains recognisers at speeds
    of 0.9, 1 and 1.1.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_factors("speed_range", self.low, self.high)

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the copies at their speeds."""
        if self.low == self.high == 1:
            return batch
        draws = torch.rand((len(batch), 2), generator=generator, device=batch.device).tolist()
        return torch.stack([self._play(waveform, *draw) for waveform, draw in zip(batch, draws, strict=True)])

    def _play(self, waveform: torch.Tensor, speed: float, place: float) -> torch.Tensor:
        factor, length = self.low + speed * (self.high - self.low), waveform.shape[-1]
        size = max(1, round(length / factor))
        played = F.interpolate(waveform[None], size=size, mode="linear", align_corners=False)[0]
        before, after, skip = _place(size, length, place)
        return F.pad(played, (before, after))[:, skip : skip + length]


def _check_factors(setting: str, low: float, high: float) -> None:
    if not 0 < low <= high < float("inf"):
        raise ConfigurationError(f"{setting} must satisfy 0 < low <= high, got {(low, high)}")


def _place(size: int, canvas: int, draw: float) -> tuple[int, int, int]:
    """Return padding before, padding after, and values to skip, to place `size` values on `canvas` at random."""
    offset = min(int(draw * (abs(canvas - size) + 1)), abs(canvas - size))
    return (offset, canvas - size - offset, 0) if size <= canvas else (0, 0, offset)


def _replicate(image: torch.Tensor, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    return F.pad(image[None], (left, right, top, bottom), mode="replicate")[0]


def _window(image: torch.Tensor, top: int, left: int, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    return image[:, top : top + size[0], left : left + size[1]]
