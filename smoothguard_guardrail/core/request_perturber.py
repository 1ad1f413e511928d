"""One prepared request becomes N requests with perturbed media."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from langchain_core.messages import BaseMessage

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.model_info import ModelInfo
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
from smoothguard_guardrail.protocols import Perturber, name_errors
from smoothguard_guardrail.result import Medium

# Longest side in pixels for `resolution="auto"` where it is unknown what the model sees: providers shrink larger
# images, and shrinking after the noise averages the noise away.
AUTO_RESOLUTION = 1024
# Longest side over shortest side of images that are enlarged to a model's size: without a limit, a line of pixels that
# is a few bytes as a file would grow to gigabytes.
MAX_ASPECT = 32


def image_perturber(config: SmoothGuardConfig, model_info: ModelInfo) -> Compose:
    """Return the configured perturbation of images for a model, differentiable so that adaptive attacks can use it."""
    return build_perturber(
        sigma=channel_sigma(config.sigma, config.noise_space, model_info.image_std),
        low_pass=config.image.low_pass,
        max_shift=config.image.max_shift,
        resize_range=config.image.resize_range,
    )


def audio_perturber(config: SmoothGuardConfig, waveform: torch.Tensor) -> GaussianNoise:
    """Return the configured perturbation of audio, differentiable in its batch.

    Args:
        config: The guard's configuration.
        waveform: Float (channels, samples) in [-1, 1], the signal of the signal-to-noise ratio.
    """
    sigma = config.audio.sigma
    if sigma is None:
        sigma = snr_sigma(waveform, config.audio.snr_db or 0.0)
    return GaussianNoise(sigma, bounds=(-1.0, 1.0))


def at_model_resolution(image: torch.Tensor, config: SmoothGuardConfig, model_info: ModelInfo) -> torch.Tensor:
    """Resize an image, differentiably, to the size at which the guard perturbs it for a model.

    Args:
        image: Float (3, height, width) in [0, 1].
        config: Its `image.resolution` decides.
        model_info: What the model reports about itself.
    """
    resolution = config.image.resolution
    if resolution is None:
        return image
    if resolution == "auto":
        if model_info.image_size is not None:
            return fit(image, side=model_info.image_size, edge="shortest", enlarge=True)
        resolution = AUTO_RESOLUTION
    return fit(image, side=resolution, edge="longest", enlarge=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """What a guarded model sees of images and audio, differentiable: what adaptive attacks optimise through.

    Images are resized as the guard does for that model, then perturbed; audio is perturbed.

    Example:
        >>> view = GuardView(config=SmoothGuardConfig(), model_info=ModelInfo(image_size=96))
        >>> view(torch.rand(2, 3, 200, 150), generator=make_generator(0)).shape
        torch.Size([2, 3, 128, 96])
    """

    config: SmoothGuardConfig
    model_info: ModelInfo

    def __call__(self, media: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Perturb every medium once.

        Args:
            media: Float32 (num_rows, 3, height, width) in [0, 1], or (num_rows, channels, samples) in [-1, 1].
            generator: Draws the noise, on the device of the media.

        Returns:
            Float32 (num_rows, 3, new height, new width), or the shape of the audio.
        """
        if media.ndim == 3:
            noisy = [audio_perturber(self.config, each)(each[None], generator=generator) for each in media]
            return torch.cat(noisy)
        fitted = torch.stack([at_model_resolution(each, self.config, self.model_info) for each in media])
        return image_perturber(self.config, self.model_info)(fitted, generator=generator)


class RequestPerturber:
    """Makes the N requests of one guarded call, wave by wave.

    Args:
        prepared: The request with its media decoded.
        config: The guard's configuration.
        model_info: What the model reports about itself.
        components: Its perturbers replace the configured ones.
        seed: Seed of this call; the same seed, waves and request give the same bytes.
    """

    def __init__(
        self,
        prepared: PreparedRequest,
        *,
        config: SmoothGuardConfig,
        model_info: ModelInfo,
        components: GuardComponents | None = None,
        seed: int,
    ) -> None:
        components = GuardComponents() if components is None else components
        self._prepared = prepared
        self._config = config
        self._model_info = model_info
        self._custom = {"image": components.image_perturber, "audio": components.audio_perturber}
        self._seed = seed
        self._device = resolve_device(config.device)
        self._originals = [self._at_model_resolution(medium) for medium in prepared.media]
        self._noise_sd: list[float | None] = [None] * len(prepared.media)

    def render(self, first_index: int, count: int) -> list[list[BaseMessage]]:
        """Return the requests of samples `first_index` to `first_index + count - 1`.

        Raises:
            AdapterError: If a user's perturber fails, or returns anything but a batch like the one it was given.
        """
        clean = [self._prepared.clean()] if self._config.include_clean and first_index == 0 else []
        num_noisy = count - len(clean)
        if not num_noisy:
            return clean
        batches = [self._perturb(index, first_index, num_noisy) for index in range(len(self._originals))]
        as_tensors = self._model_info.accepts_tensors

        def render_one(sample: int) -> list[BaseMessage]:
            return self._prepared.render([batch[sample] for batch in batches], as_tensors=as_tensors)

        if as_tensors:
            return clean + [render_one(sample) for sample in range(num_noisy)]
        with ThreadPoolExecutor(min(num_noisy, os.cpu_count() or 1)) as pool:  # encoders release the GIL
            return clean + list(pool.map(render_one, range(num_noisy)))

    def records(self) -> tuple[Medium, ...]:
        """Return what was done to each medium, including those that were dropped or passed."""
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
        if self._config.image.resolution == "auto" and self._model_info.image_size is not None:
            _check_aspect(medium)
        return at_model_resolution(medium.tensor, self._config, self._model_info)

    def _perturb(self, index: int, first_index: int, count: int) -> torch.Tensor:
        medium, original = self._prepared.media[index], self._originals[index].to(self._device)
        batch = original.expand(count, *original.shape)
        generator = make_generator(self._seed, index, first_index, device=self._device)
        custom = self._custom[medium.kind]
        with torch.no_grad():
            if custom is None:
                perturbed = self._configured(medium)(batch, generator=generator)
            else:
                perturbed = name_errors(f"{medium.kind} perturber", custom)(batch.clone(), generator=generator)
                _check_batch(perturbed, batch.shape, 0.0 if medium.kind == "image" else -1.0)
                perturbed = perturbed.to(self._device, torch.float32)
            # One copy at a time: the differences of all of them would take as much memory again.
            changes = [float((copy - original).square().mean()) for copy in perturbed]
        if custom is not None and min(changes) == 0:
            raise AdapterError(
                f"{medium.record.path}: the {medium.kind} perturber returned a copy unchanged, which would be"
                " unguarded: make it change every copy"
            )
        if self._noise_sd[index] is None:
            self._noise_sd[index] = (sum(changes) / count) ** 0.5
        return perturbed.cpu()

    def _configured(self, medium: DecodedMedium) -> Perturber:
        if medium.kind == "image":
            return image_perturber(self._config, self._model_info)
        return audio_perturber(self._config, medium.tensor)


def _check_aspect(medium: DecodedMedium) -> None:
    height, width = medium.tensor.shape[-2:]
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaLimitError(
            f"is {width} x {height} pixels, more than {MAX_ASPECT} times as long as wide: set `image.resolution`",
            path=medium.record.path,
        )


def _check_batch(batch: Any, shape: Sequence[int], low: float) -> None:
    """Refuse what a user's perturber must not return, before the model sees it."""
    if not isinstance(batch, torch.Tensor) or tuple(batch.shape) != tuple(shape):
        found = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise AdapterError(f"perturber: expected a tensor of shape {tuple(shape)}, got {found}")
    if not batch.is_floating_point() or not bool(((batch >= low - 1e-4) & (batch <= 1 + 1e-4)).all()):
        raise AdapterError(f"perturber: expected finite floating-point values in [{low:g}, 1]")
