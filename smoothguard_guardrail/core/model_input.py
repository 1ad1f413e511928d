"""At what size the guard perturbs media for a model, how strong the noise must be there, and how an attack sees it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.errors import MediaLimitError
from smoothguard_guardrail.media import resize
from smoothguard_guardrail.perturbations import (
    Compose,
    GaussianNoise,
    RandomSpeed,
    build_perturber,
    channel_sigma,
    snr_sigma,
)

# Longest side in pixels where it is unknown what the model sees: providers shrink larger images, and shrinking after
# the noise averages the noise away.
AUTO_RESOLUTION = 1024
# The same where small text must stay legible: a Full HD screen keeps its size.
LEGIBLE_RESOLUTION = 2048
# Sampling rate in Hz where it is unknown what the model hears; that of most models of speech.
AUTO_SAMPLING_RATE = 16_000
# Pixels at most, whatever the model would take: it bounds the memory of a request.
MAX_PIXELS = 2048 * 2048
# Longest side over shortest side of images that are resized to a model's size: without a limit, a line of pixels that
# is a few bytes as a file would grow to gigabytes.
MAX_ASPECT = 32
# Pages longer than this many times their width are cut into bands where the model is unknown.
_LONG_PAGE = 2.0
_BAND_OVERLAP = 64
# They are not shrunk further than to this share to fit into `MAX_PIXELS`.
_LEGIBLE = 0.8
# Noise is not made stronger than this many times to make up for what a processor takes away: it would be clipped.
_MOST_AMPLIFIED = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """What a model sees of media, and how the guard perturbs them for it.

    Example:
        >>> ModelInput(config=SmoothGuardConfig(), model_info=ModelInfo()).image_size(1200, 1600, {})
        (768, 1024)
    """

    config: SmoothGuardConfig
    model_info: ModelInfo

    def image_size(self, height: int, width: int, hints: Mapping[str, Any]) -> tuple[int, int]:
        """Return the height and width at which an image is perturbed.

        Args:
            height: In pixels.
            width: In pixels.
            hints: What the image's block says about its size; see `media.dialects.SIZE_HINTS`.

        Raises:
            MediaLimitError: It is too long and narrow to be resized to the model's size.
        """
        resolution = self.config.image.resolution
        if resolution is None:
            return height, width
        sides = [hints.get(name) for name in ("resized_height", "resized_width")]
        if all(isinstance(side, int) and 1 <= side <= AUTO_RESOLUTION * 2 for side in sides):
            return sides[0], sides[1]  # type: ignore[return-value]
        if hints.get("detail") == "low":
            height, width = _fit(height, width, 512)
        if isinstance(resolution, int):
            return _fit(height, width, resolution)
        if self.model_info.image_input_size is None:
            return self._unknown_size(height, width)
        if max(height, width) > MAX_ASPECT * min(height, width):
            raise MediaLimitError(
                f"is {width} x {height} pixels, more than {MAX_ASPECT} times as long as wide: set `image.resolution`",
                path="image",
            )
        return _bounded(*self.model_info.image_input_size(height, width))

    def bands(self, height: int, width: int, hints: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Return the bands into which an image at its perturbed size is cut: start and stop along its longer axis.

        A page that an unknown provider would shrink until no one could read it is sent in bands; all other images are
        one.
        """
        longest = max(height, width)
        resolution = self.config.image.resolution
        if resolution is None or isinstance(resolution, int) or self.model_info.image_input_size is not None:
            return [(0, longest)]
        if longest <= self._unknown_resolution and longest <= _LONG_PAGE * min(height, width):
            return [(0, longest)]
        if longest <= AUTO_RESOLUTION or any(name in hints for name in ("resized_height", "resized_width")):
            return [(0, longest)]
        number = math.ceil((longest - _BAND_OVERLAP) / (AUTO_RESOLUTION - _BAND_OVERLAP))
        starts = [round(index * (longest - AUTO_RESOLUTION) / (number - 1)) for index in range(number)]
        return [(start, start + AUTO_RESOLUTION) for start in starts]

    def image_gain(self, height: int, width: int) -> float | None:
        """Return how much of the noise on an image of a size arrives at the model; None where that is unknown."""
        if self.model_info.image_noise_gain is not None:
            return self.model_info.image_noise_gain(height, width)
        size = self.model_info.image_input_size
        return 1.0 if size is not None and size(height, width) == (height, width) else None

    def image_perturber(self, size: tuple[int, int] | None = None) -> Compose:
        """Return the configured perturbation of images, differentiable so that adaptive attacks can use it.

        Args:
            size: Height and width of the images: noise is made stronger by as much as the model's processor weakens it
                at that size; None: the processor leaves it as it is.
        """
        image = self.config.image
        gain = (None if size is None else self.image_gain(*size)) or 1.0
        sigma = channel_sigma(self.config.sigma, self.config.noise_space, self.model_info.image_std)
        return build_perturber(
            sigma=tuple(each / max(gain, 1 / _MOST_AMPLIFIED) for each in sigma),
            low_pass=image.low_pass,
            max_shift=image.max_shift,
            max_rotation=image.max_rotation,
            resize_range=image.resize_range,
        )

    def sampling_rate(self, rate: int) -> int | None:
        """Return the rate in Hz at which audio is perturbed, as one channel: the model's, and never a higher one."""
        return min(rate, self.model_info.sampling_rate or AUTO_SAMPLING_RATE)

    def audio_perturber(self, waveform: torch.Tensor) -> Compose:
        """Return the configured perturbation of audio, differentiable so that adaptive attacks can use it.

        Args:
            waveform: Float (channels, samples) in [-1, 1], the signal of the signal-to-noise ratio.
        """
        audio = self.config.audio
        sigma = snr_sigma(waveform, audio.snr_db or 0.0) if audio.sigma is None else audio.sigma
        speed = () if audio.speed_range is None else (RandomSpeed(*audio.speed_range),)
        return Compose((*speed, GaussianNoise(sigma, bounds=(-1.0, 1.0))))

    @property
    def _unknown_resolution(self) -> int:
        return LEGIBLE_RESOLUTION if self.config.image.resolution == "legible" else AUTO_RESOLUTION

    def _unknown_size(self, height: int, width: int) -> tuple[int, int]:
        longest, shortest = max(height, width), min(height, width)
        if longest <= AUTO_RESOLUTION or longest <= _LONG_PAGE * shortest:
            return _fit(height, width, self._unknown_resolution)
        size = _scaled(height, width, min(1.0, AUTO_RESOLUTION / shortest))
        bounded = _bounded(*size)
        if bounded[0] < _LEGIBLE * size[0]:
            raise MediaLimitError(
                f"is {width} x {height} pixels, too long to be sent legibly: cut it, or set `image.resolution`",
                path="image",
            )
        return bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """What a guarded model sees of images and audio, differentiable: what adaptive attacks optimise through.

    Images are resized as the guard does for that model, then perturbed; audio is perturbed.

    Args:
        config: The guard's settings.
        model_info: What is known of the model.
        clips: Whether noisy values are clipped; without, clipping does not stop the gradient (see `StraightThrough`).
        clean_share: Share of the media, drawn at random, that are left unperturbed, as a guard's clean copy is.

    Example:
        >>> view = GuardView(config=SmoothGuardConfig(), model_info=ModelInfo())
        >>> view(torch.rand(2, 3, 200, 150), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 200, 150])
    """

    config: SmoothGuardConfig
    model_info: ModelInfo
    clips: bool = True
    clean_share: float = 0.0

    def __call__(self, media: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Perturb every medium once.

        Args:
            media: Float32 (num_rows, 3, height, width) in [0, 1], or (num_rows, channels, samples) in [-1, 1].
            generator: Draws the noise, on the device of the media.

        Returns:
            Float32 (num_rows, 3, new height, new width), or the shape of the audio.
        """
        model_input = ModelInput(config=self.config, model_info=self.model_info)
        if media.ndim == 3:
            perturbers = [self._clipped(model_input.audio_perturber(each)) for each in media]
            pairs = zip(perturbers, media, strict=True)
            seen = torch.cat([perturb(each[None], generator=generator) for perturb, each in pairs])
            return self._with_clean(media, seen, generator)
        size = model_input.image_size(media.shape[-2], media.shape[-1], {})
        fitted = torch.stack([resize(each, size) for each in media])
        perturb = self._clipped(model_input.image_perturber(size))
        return self._with_clean(fitted, perturb(fitted, generator=generator), generator)

    def _clipped(self, perturbation: Compose) -> Compose:
        """Return a perturbation; its noise without clipping, if so configured."""
        if self.clips:
            return perturbation
        unbounded = (-math.inf, math.inf)
        return Compose(
            tuple(
                replace(part, bounds=unbounded) if isinstance(part, GaussianNoise) else part
                for part in perturbation.parts
            )
        )

    def _with_clean(self, clean: torch.Tensor, noisy: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if not self.clean_share:
            return noisy
        drawn = torch.rand(len(noisy), generator=generator, device=noisy.device) < self.clean_share
        return torch.where(drawn.view(-1, *(1 for _ in noisy.shape[1:])), clean, noisy)


def _fit(height: int, width: int, side: float) -> tuple[int, int]:
    """Shrink so that the longer side has at most a length."""
    return _scaled(height, width, min(1.0, side / max(height, width)))


def _bounded(height: int, width: int) -> tuple[int, int]:
    return _scaled(height, width, min(1.0, math.sqrt(MAX_PIXELS / (height * width))))


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))
