"""What kind of medium is attacked: its bounds, the values that a file can hold, and its dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

SLACK = 1e-4
"""In levels: float32 holds a 255th to about 1e-5 of one, so bounds are checked up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Values that a file can hold: evenly spaced levels from `low` to `high`.

    Attributes:
        name: What one medium is called in messages.
        low: Lowest value.
        high: Highest value.
        num_levels: How many values a file can hold, both ends included.
        dimensions: Names of a batch's dimensions, starting with the batch itself.

    Example:
        >>> PIXELS.levels_per_unit, WAVEFORM.levels_per_unit
        (255, 32768)
    """

    name: str
    low: float
    high: float
    num_levels: int
    dimensions: tuple[str, ...]

    @property
    def levels_per_unit(self) -> int:
        """How many levels lie in a range of length one."""
        return round((self.num_levels - 1) / (self.high - self.low))

    def levels(self, media: torch.Tensor) -> torch.Tensor:
        """Return values in levels, counted from 0: float64, not rounded."""
        return (media.double() - self.low) * self.levels_per_unit

    def values(self, levels: torch.Tensor) -> torch.Tensor:
        """Return the values of whole levels as float32."""
        return (levels / self.levels_per_unit + self.low).float()

    def check(self, media: torch.Tensor) -> torch.Tensor:
        """Return the batch as float32 without a graph.

        Raises:
            ConfigurationError: The dimensions are wrong, or a value is NaN or more than one level out of bounds.
        """
        if media.ndim != len(self.dimensions) or not media.numel():
            expected = ", ".join(self.dimensions)
            raise ConfigurationError(f"expected {self.name}s of shape ({expected}), got {(*media.shape,)}")
        media = media.detach().float()
        level = 1 / self.levels_per_unit
        if not ((media >= self.low - level) & (media <= self.high + level)).all():
            raise ConfigurationError(f"values of {self.name}s must lie in [{self.low:g}, {self.high:g}]")
        return media


PIXELS = Space(name="image", low=0.0, high=1.0, num_levels=256, dimensions=("batch", "channels", "height", "width"))
"""Images in [0, 1], 8 bits per channel."""

WAVEFORM = Space(
    name="waveform", low=-1.0, high=1 - 2**-15, num_levels=2**16, dimensions=("batch", "channels", "samples")
)
"""Audio in [-1, 1], 16 bits: a file holds -32768 to 32767, divided by 32768."""
