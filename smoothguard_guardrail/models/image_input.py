"""At what size a processor shows images to its model, and what is left of noise: measured with test images.

Processors crop, squash, pad and cut images into tiles, each family in its own way. What they do to a ramp tells how
many pixels become one, along each axis; what they do to noise tells how much of it survives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch

Encode = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]

_NOISE_SD = 0.05
_MARGIN = 0.1
"""Share of a view that is left out at each border, where resizing filters see beyond the image."""
_LARGEST_PATCH = 32
_SMALLEST = 16
_RISE = 0.99
_EXACT = 0.005
"""A gain that differs from 1 by less is taken for 1."""
_CONSISTENT = 0.002
"""Two lengths that differ by a smaller share are taken for the same."""


class Views(NamedTuple):
    """What the model sees: several views of the image, in units of the image's own values."""

    values: torch.Tensor
    """(num_views, 3, height, width)."""
    is_image: torch.Tensor
    """bool (num_views, height, width): false where a view is padded."""


class ImageInput:
    """Measures what a processor does to images of a size.

    Args:
        encode: From an image, float32 (3, height, width) in [0, 1], to the inputs of the model.
        patch_size: Side of the patches into which the processor cuts images; None if it cuts none.
    """

    def __init__(self, encode: Encode, *, patch_size: int | None = None) -> None:
        self._encode = encode
        self._patch_size = patch_size
        self.size: Callable[[int, int], tuple[int, int]] = lru_cache(maxsize=256)(self._size)
        self.gain: Callable[[int, int], float] = lru_cache(maxsize=256)(self._gain)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an image that the processor would take over pixel by pixel.

        Where the model sees an image in several views, that is the size of the finest one. An image at its own size is
        returned where the processor can't be understood.
        """
        if (scale := -(-_SMALLEST // min(height, width))) > 1:  # too few pixels for a slope
            return self._size(scale * height, scale * width)
        # Across each ramp an offset of less than one level of 255, for processors that round to levels.
        offset = torch.rand(max(height, width), generator=torch.Generator().manual_seed(0)) / 256
        ramp = torch.ones(3, height, width)
        ramp[0] = _RISE * torch.linspace(0, 1, width) + offset[:height, None]
        ramp[1] = _RISE * torch.linspace(0, 1, height)[:, None] + offset[:width]
        views = self.views(ramp)
        if views is None:
            return height, width
        across = _finest(views.values[:, 0] / _RISE, views.is_image)
        down = _finest(views.values[:, 1].mT / _RISE, views.is_image.mT)
        return _pixels(height, down), _pixels(width, across)

    def _gain(self, height: int, width: int) -> float:
        """Return the standard deviation at the model's input of white noise of 1 on an image of a size."""
        noise = _NOISE_SD * torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))
        views = self.views(0.5 + noise)
        if views is None:
            return 1.0
        left = (views.values - 0.5).movedim(1, -1)[views.is_image].square().mean().sqrt()
        gain = float(left / noise.square().mean().sqrt())
        return 1.0 if abs(gain - 1) < _EXACT else gain

    def views(self, image: torch.Tensor) -> Views | None:
        """Return what the model sees of an image, undoing the normalization."""
        seen, white, black = (
            self._layout(self._encode(each)) for each in (image, torch.ones_like(image), torch.zeros_like(image))
        )
        if seen is None or white is None or black is None or seen.shape != white.shape:
            return None
        span = white - black
        is_image = (span.abs() > 1e-3).all(dim=1)
        if not bool(is_image.any()):
            return None
        return Views((seen - black) / torch.where(span.abs() > 1e-3, span, torch.ones_like(span)), is_image)

    def _layout(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return the pixels of the inputs as (num_views, 3, height, width); None if their layout is unknown."""
        given: Any = inputs.get("pixel_values")
        if not isinstance(given, torch.Tensor):
            return None
        pixels = given.float().cpu()
        if pixels.ndim >= 4 and pixels.shape[-3] == 3:
            return pixels.reshape(-1, *pixels.shape[-3:])
        side = self._patch_size
        if side is None or pixels.shape[-1] % (3 * side * side):
            return None
        # Patches with the channel first, then the frames of a video, of which an image fills all alike.
        return pixels.reshape(-1, 3, pixels.shape[-1] // (3 * side * side), side, side)[:, :, 0]


def _finest(ramps: torch.Tensor, is_image: torch.Tensor) -> float:
    """Return the slope, in shares of the image's width per pixel, of the view that shows the image largest."""
    if ramps.shape[-1] <= _LARGEST_PATCH and len(ramps) > 1:
        whole = ramps[is_image.all(dim=-1).all(dim=-1)]
        return float((whole[..., -1] - whole[..., 0]).mean() / (ramps.shape[-1] - 1)) if len(whole) else 0.0
    slopes = []
    for ramp, mask in zip(ramps, is_image, strict=True):
        columns = mask.any(dim=0).nonzero().flatten()
        rows = mask.any(dim=1)
        if len(columns) < 4:
            continue
        first, last = (int(columns[round(share * (len(columns) - 1))]) for share in (_MARGIN, 1 - _MARGIN))
        line = ramp[rows].mean(dim=0)
        slopes.append(float((line[last] - line[first]) / (last - first)))
    rising = [slope for slope in slopes if slope > 1e-7]
    return min(rising, default=0.0)


def _pixels(length: int, slope: float) -> int:
    """Return how many pixels the whole image has where one pixel is a share of it; its own length where unknown."""
    if slope <= 0:
        return length
    # A ramp from 0 to 1 over `length` pixels rises by 1 / (length - 1) at each.
    pixels = length / (slope * max(1, length - 1))
    return length if abs(pixels / length - 1) < _CONSISTENT else max(1, round(pixels))
