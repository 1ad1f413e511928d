"""One prepared request becomes N requests with perturbed media."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from langchain_core.messages import BaseMessage

from smoothguard_guardrail._internal.pool import cpu_map
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.errors import AdapterError, MediaLimitError
from smoothguard_guardrail.media import (
    DecodedMedium,
    PreparedRequest,
    RenderedMedium,
    choose_encoding,
    render_medium,
    resize,
)
from smoothguard_guardrail.perturbations import make_generator, resolve_device
from smoothguard_guardrail.protocols import Perturber, name_errors
from smoothguard_guardrail.result import Medium

# Values that are perturbed at once: larger media are perturbed a few copies at a time.
_CHUNK_VALUES = 6_000_000
_PART = 2**20
# Bytes of the encoded copies that are held at once; see `RequestPerturber.max_wave`.
_BYTES_IN_FLIGHT = 48 * 2**20
_BYTES_PER_PIXEL = 4.0
_BYTES_PER_SAMPLE = 2.7


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
        self._input = ModelInput(config=config, model_info=model_info)
        self._custom = {"image": components.image_perturber, "audio": components.audio_perturber}
        self._seed = seed
        self._device = resolve_device(config.device)
        self._originals = [self._at_input_size(medium) for medium in prepared.media]
        self._bands = [
            self._bands_of(medium, values) for medium, values in zip(prepared.media, self._originals, strict=True)
        ]
        self._noise_sd: list[float | None] = [None] * len(prepared.media)

    @property
    def max_wave(self) -> int:
        """Most samples whose copies are held at once: it bounds the memory of a request with many or long media."""
        per_value = {"image": _BYTES_PER_PIXEL / 3, "audio": _BYTES_PER_SAMPLE}
        pairs = zip(self._prepared.media, self._originals, strict=True)
        num_bytes = sum(per_value[medium.kind] * values.numel() for medium, values in pairs)
        return max(1, int(_BYTES_IN_FLIGHT / max(1.0, num_bytes)))

    def render(self, first_index: int, count: int) -> list[list[BaseMessage]]:
        """Return the requests of samples `first_index` to `first_index + count - 1`.

        Raises:
            AdapterError: If a user's perturber fails, or returns anything but a batch like the one it was given.
        """
        clean = [self.clean()] if self._config.include_clean and first_index == 0 else []
        num_noisy = count - len(clean)
        if not num_noisy:
            return clean
        copies = [self._perturbed(index, first_index, num_noisy) for index in range(len(self._originals))]
        requests = clean
        for _ in range(num_noisy):  # what is written into its request is let go of
            requests.append(self._prepared.render([rendered.pop(0) for rendered in copies]))
        return requests

    def clean(self) -> list[BaseMessage]:
        """Return the request with media that are decoded, resized and encoded as noisy copies are, without noise."""
        indices = range(len(self._originals))
        return self._prepared.render([self._rendered(index, self._unit(index)[None])[0] for index in indices])

    def records(self) -> tuple[Medium, ...]:
        """Return what was done to each medium, including those that were dropped or passed."""
        perturbed = iter(range(len(self._originals)))
        return tuple(
            self._record(next(perturbed), record) if record.action == "perturbed" else record
            for record in self._prepared.records
        )

    def _record(self, index: int, record: Medium) -> Medium:
        noise_sd, (height, width) = self._noise_sd[index], self._originals[index].shape[-2:]
        medium, as_tensors = self._prepared.media[index], self._input.model_info.accepts_tensors
        facts: dict[str, Any] = {"noise_sd": noise_sd}
        gain: float | None = 1.0
        if medium.container is not None and not medium.becomes_blocks(as_tensors=as_tensors):
            gain = None  # nobody documents at what size the parts of a file are seen
            facts |= {"perturbed_size": (width, height), "size_known_by": "nothing"} if record.kind == "image" else {}
        elif record.kind == "image":
            facts |= {"perturbed_size": (width, height), "size_known_by": self._input.model_info.known_by}
            gain = self._input.image_gain(height, width)
        elif self._input.model_info.sampling_rate is None:
            gain = None
        if gain is not None and noise_sd is not None:
            facts["effective_sd"] = noise_sd * gain
        if len(self._bands[index]) > 1:
            facts["notes"] = (*record.notes, f"sent in {len(self._bands[index])} bands")
        return record.model_copy(update=facts)

    def _at_input_size(self, medium: DecodedMedium) -> torch.Tensor:
        values = medium.values
        if medium.kind == "image" and medium.record.size is not None:
            width, height = medium.record.size
            size = self._input.image_size(height, width, medium.hints)
            if tuple(values.shape[1:]) != size:  # it was prepared for another size
                return resize(medium.tensor, size)
        return values

    def _bands_of(self, medium: DecodedMedium, values: torch.Tensor) -> list[tuple[int, int]]:
        if medium.kind != "image":
            return [(0, values.shape[-1])]
        bands = self._input.bands(values.shape[-2], values.shape[-1], medium.hints)
        if len(bands) > 1 and not medium.can_be_several:
            width, height = medium.record.size or (0, 0)
            raise MediaLimitError(
                f"is {width} x {height} pixels, which the model may shrink until it can't be read, and it can't be cut"
                " into bands here: set `image.resolution`",
                path=medium.record.path,
            )
        return bands

    def _unit(self, index: int) -> torch.Tensor:
        """Return a medium as float32, in its range."""
        values = self._originals[index]
        return values.to(torch.float32).div(255) if values.dtype == torch.uint8 else values

    def _perturbed(self, index: int, first_index: int, count: int) -> list[RenderedMedium]:
        """Return copies of a medium, each as it stands in its request."""
        changes: list[float] = []
        copies = self._copies(index, first_index, count, changes)
        first = next(copies)
        encoding = self._encoding(index, first)
        rendered = self._rendered(index, chain([first], copies), encoding)
        if self._noise_sd[index] is None:
            self._noise_sd[index] = (sum(changes) / count) ** 0.5
        return rendered

    def _copies(self, index: int, first_index: int, count: int, changes: list[float]) -> Iterator[torch.Tensor]:
        """Yield noisy copies of a medium, and append the mean square of each one's change to `changes`."""
        medium, original = self._prepared.media[index], self._unit(index).to(self._device)
        generator = make_generator(self._seed, index, first_index, device=self._device)
        custom = self._custom[medium.kind]
        chunk = count if custom else max(1, _CHUNK_VALUES // original.numel())
        for start in range(0, count, chunk):
            batch = original.expand(min(chunk, count - start), *original.shape)
            with torch.no_grad():
                if custom is None:
                    copies = self._configured(medium, original)(batch, generator=generator)
                else:
                    copies = name_errors(f"{medium.kind} perturber", custom)(batch.clone(), generator=generator)
                    _check_batch(copies, batch.shape, 0.0 if medium.kind == "image" else -1.0)
                    copies = copies.to(self._device, torch.float32)
                found = [_mean_square(copy, original) for copy in copies]
            if custom is not None and min(found) == 0:
                raise AdapterError(
                    f"{medium.record.path}: the {medium.kind} perturber returned a copy unchanged, which would be"
                    " unguarded: make it change every copy"
                )
            changes += found
            yield from copies.cpu()

    def _encoding(self, index: int, noisy: torch.Tensor) -> str:
        """Return how the copies of a wave are encoded, tried on its first one."""
        medium = self._prepared.media[index]
        encoded = (
            medium.kind == "image" and medium.found.form != "object" and not self._input.model_info.accepts_tensors
        )
        return choose_encoding(noisy, self._unit(index)) if encoded else "PNG"

    def _rendered(self, index: int, copies: Iterable[torch.Tensor], encoding: str = "PNG") -> list[RenderedMedium]:
        """Return copies as they stand in requests; they are encoded while the next ones are made."""
        medium, bands = self._prepared.media[index], self._bands[index]
        as_tensors = self._input.model_info.accepts_tensors

        def render(values: torch.Tensor) -> RenderedMedium:
            return render_medium(medium, values, as_tensors=as_tensors, encoding=encoding)

        def render_bands(copy: torch.Tensor) -> RenderedMedium:
            along = 1 if copy.shape[1] >= copy.shape[2] else 2
            return [render(copy.narrow(along, start, stop - start)) for start, stop in bands]

        if as_tensors:
            return [render(copy) for copy in copies]
        return cpu_map(render_bands if len(bands) > 1 else render, copies)

    def _configured(self, medium: DecodedMedium, original: torch.Tensor) -> Perturber:
        if medium.kind == "image":
            return self._input.image_perturber((original.shape[-2], original.shape[-1]))
        return self._input.audio_perturber(original)


def _mean_square(copy: torch.Tensor, original: torch.Tensor) -> float:
    """Return the mean square of a change, part by part: the whole difference would take as much memory again."""
    parts = zip(*(torch.split(each.reshape(-1), _PART) for each in (copy, original)), strict=True)
    return sum(float((after - before).square().sum(dtype=torch.float64)) for after, before in parts) / copy.numel()


def _check_batch(batch: Any, shape: Sequence[int], low: float) -> None:
    """Refuse what a user's perturber must not return, before the model sees it."""
    if not isinstance(batch, torch.Tensor) or tuple(batch.shape) != tuple(shape):
        found = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise AdapterError(f"perturber: expected a tensor of shape {tuple(shape)}, got {found}")
    if not batch.is_floating_point() or not bool(((batch >= low - 1e-4) & (batch <= 1 + 1e-4)).all()):
        raise AdapterError(f"perturber: expected finite floating-point values in [{low:g}, 1]")
