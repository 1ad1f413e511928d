"""Where media meet smoothing: one prepared request becomes N requests with perturbed media."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from langchain_core.messages import BaseMessage

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import AdapterError, MediaLimitError
from smoothguard_guardrail.media import DecodedMedium, PreparedRequest, fit
from smoothguard_guardrail.perturbations import (
    Compose,
    GaussianNoise,
    build_perturber,
    channel_sigma,
    make_generator,
    resolve_device,
    snr_sigma,
)
from smoothguard_guardrail.protocols import Perturber, blamed
from smoothguard_guardrail.result import Medium

# Longest side in pixels that `resolution="auto"` keeps where the model does not tell what it sees: providers shrink
# larger pictures, and shrinking after the noise averages the noise away.
AUTO_RESOLUTION = 1024
# Longest side over shortest that is enlarged to a model's size: without a bound a line of pixels, a few bytes as a
# file, grows to gigabytes.
MAX_ASPECT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model tells about the pictures that it sees; the defaults are a model that tells nothing."""

    accepts_tensors: bool = False
    """Whether media may reach it as tensors, without being encoded."""
    image_size: int | None = None
    """Side in pixels to which it brings every picture; None when that varies or is not known."""
    image_std: tuple[float, float, float] | None = None
    """Per-channel std that it divides pixels by; None when not known."""

    @classmethod
    def of(cls, model: Any) -> ModelFacts:
        """Read the facts off a model's attributes."""
        std = getattr(model, "image_std", None)
        return cls(
            accepts_tensors=bool(getattr(model, "accepts_tensors", False)),
            image_size=getattr(model, "image_size", None),
            image_std=tuple(std) if std is not None else None,
        )


def image_perturber(config: SmoothGuardConfig, facts: ModelFacts) -> Compose:
    """Return the perturbation of images that this configuration describes for a model.

    It is differentiable in its batch, so an adaptive attack can go through it.
    """
    return build_perturber(
        sigma=channel_sigma(config.sigma, config.noise_space, facts.image_std),
        low_pass=config.low_pass,
        max_shift=config.max_shift,
        resize_range=config.resize_range,
    )


def audio_perturber(config: SmoothGuardConfig, waveform: torch.Tensor) -> GaussianNoise:
    """Return the perturbation of a recording that this configuration describes, differentiable in its batch.

    Args:
        config: Its `audio_sigma`, or `audio_snr_db`, decides.
        waveform: Float (channels, samples) in [-1, 1]: the recording, against which the ratio is taken.
    """
    sigma = config.audio_sigma
    if sigma is None:
        sigma = snr_sigma(waveform, config.audio_snr_db or 0.0)
    return GaussianNoise(sigma, bounds=(-1.0, 1.0))


def at_model_resolution(image: torch.Tensor, config: SmoothGuardConfig, facts: ModelFacts) -> torch.Tensor:
    """Bring a picture to the size at which the guard perturbs it for a model, differentiably.

    Args:
        image: Float (3, height, width) in [0, 1].
        config: Its `resolution` decides.
        facts: What the model tells about itself.
    """
    resolution = config.resolution
    if resolution is None:
        return image
    if resolution == "auto":
        if facts.image_size is not None:
            return fit(image, side=facts.image_size, edge="shortest", enlarge=True)
        resolution = AUTO_RESOLUTION
    return fit(image, side=resolution, edge="longest", enlarge=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """What a model behind a guard sees of pictures and recordings, differentiable: what adaptive attacks go through.

    Pictures are resized as the guard does for that model, then perturbed; recordings are perturbed.

    Example:
        >>> view = GuardView(config=SmoothGuardConfig(), facts=ModelFacts(image_size=96))
        >>> view(torch.rand(2, 3, 200, 150), generator=make_generator(0)).shape
        torch.Size([2, 3, 128, 96])
    """

    config: SmoothGuardConfig
    facts: ModelFacts

    def __call__(self, media: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Perturb every medium once.

        Args:
            media: Float32 (num_rows, 3, height, width) in [0, 1], or (num_rows, channels, samples) in [-1, 1].
            generator: Draws the noise, on the device of the media.

        Returns:
            Float32 (num_rows, 3, new height, new width), or the shape of the recordings.
        """
        if media.ndim == 3:
            noisy = [audio_perturber(self.config, each)(each[None], generator=generator) for each in media]
            return torch.cat(noisy)
        fitted = torch.stack([at_model_resolution(each, self.config, self.facts) for each in media])
        return image_perturber(self.config, self.facts)(fitted, generator=generator)


class RequestPerturber:
    """Makes the N requests of one guarded call, wave by wave.

    Args:
        prepared: The request with its media decoded.
        config: The guard's configuration.
        facts: What the model tells about itself.
        perturber: Takes the place of the configured perturbation, for images and recordings alike.
        seed: Seed of this call; the same seed, waves and request give the same bytes.
    """

    def __init__(
        self,
        prepared: PreparedRequest,
        *,
        config: SmoothGuardConfig,
        facts: ModelFacts,
        perturber: Perturber | None = None,
        seed: int,
    ) -> None:
        self._prepared = prepared
        self._config = config
        self._facts = facts
        self._custom = perturber
        self._seed = seed
        self._device = resolve_device(config.device)
        self._originals = [self._at_model_resolution(medium) for medium in prepared.media]
        self._noise_sd: list[float | None] = [None] * len(prepared.media)

    def render(self, first_index: int, count: int) -> list[list[BaseMessage]]:
        """Return the requests of samples `first_index` to `first_index + count - 1`.

        Raises:
            AdapterError: If the user's perturber returned something else than a batch like the one it was given.
        """
        clean = [self._prepared.clean()] if self._config.include_clean and first_index == 0 else []
        num_noisy = count - len(clean)
        if not num_noisy:
            return clean
        batches = [self._perturbed(index, first_index, num_noisy) for index in range(len(self._originals))]

        def render_one(sample: int) -> list[BaseMessage]:
            return self._prepared.render([batch[sample] for batch in batches], as_tensors=self._facts.accepts_tensors)

        if self._facts.accepts_tensors:
            return clean + [render_one(sample) for sample in range(num_noisy)]
        with ThreadPoolExecutor(min(num_noisy, os.cpu_count() or 1)) as pool:  # encoders release the GIL
            return clean + list(pool.map(render_one, range(num_noisy)))

    def records(self) -> tuple[Medium, ...]:
        """Return what was done to each medium, those that were dropped or passed included."""
        perturbed = iter(zip(self._originals, self._noise_sd, strict=True))
        records = []
        for record in self._prepared.records:
            if record.action == "perturbed":
                original, noise_sd = next(perturbed)
                size = (original.shape[-1], original.shape[-2]) if record.kind == "image" else None
                record = record.model_copy(update={"noise_sd": noise_sd, "perturbed_size": size})
            records.append(record)
        return tuple(records)

    def _at_model_resolution(self, medium: DecodedMedium) -> torch.Tensor:
        if medium.kind != "image":
            return medium.tensor
        if self._config.resolution == "auto" and self._facts.image_size is not None:
            _check_aspect(medium)
        return at_model_resolution(medium.tensor, self._config, self._facts)

    def _perturbed(self, index: int, first_index: int, count: int) -> torch.Tensor:
        medium, original = self._prepared.media[index], self._originals[index].to(self._device)
        batch = original.expand(count, *original.shape)
        generator = make_generator(self._seed, index, first_index, device=self._device)
        with torch.no_grad():
            if self._custom is None:
                perturbed = self._configured(medium)(batch, generator=generator)
            else:
                perturbed = blamed("perturber", self._custom)(batch.clone(), generator=generator)
                _check_batch(perturbed, batch.shape, 0.0 if medium.kind == "image" else -1.0)
                perturbed = perturbed.to(self._device, torch.float32)
            # One copy at a time: the differences of all of them would take as much memory again.
            changes = [float((copy - original).square().mean()) for copy in perturbed]
        if self._custom is not None and min(changes) == 0:
            raise AdapterError(f"{medium.record.path}: a copy came out unchanged, and would be unguarded: add noise")
        if self._noise_sd[index] is None:
            self._noise_sd[index] = (sum(changes) / count) ** 0.5
        return perturbed.cpu()

    def _configured(self, medium: DecodedMedium) -> Perturber:
        if medium.kind == "image":
            return image_perturber(self._config, self._facts)
        return audio_perturber(self._config, medium.tensor)


def _check_aspect(medium: DecodedMedium) -> None:
    height, width = medium.tensor.shape[-2:]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaLimitError(
            f"is {width} x {height} pixels, more than {MAX_ASPECT} times as long as wide: set `resolution`",
            path=medium.record.path,
        )


def _check_batch(batch: Any, shape: Sequence[int], low: float) -> None:
    """Refuse what a user's perturber must not return, before the model sees it."""
    if not isinstance(batch, torch.Tensor) or tuple(batch.shape) != tuple(shape):
        found = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise AdapterError(f"the perturber must return a tensor of shape {tuple(shape)}, not {found}")
    if not batch.is_floating_point() or not bool(((batch >= low - 1e-4) & (batch <= 1 + 1e-4)).all()):
        raise AdapterError(f"the perturber must return finite floating-point values in [{low:g}, 1]")
