"""What an attacker may change: a ball around the original, limited to values that a file can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from smoothguard_guardrail.attacks.space import PIXELS, SLACK, Space
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

Norm = Literal["linf", "l2"]
Window = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ball:
    """All media of a space within `epsilon` of an original.

    Args:
        epsilon: Radius, in units of the space's values: the largest change of one value (`linf`), or the Euclidean
            norm of the change of a whole medium (`l2`). None: only the space's bounds hold.
        norm: `linf` or `l2`.
        space: Bounds and levels.
        window: The part of an image that may change: a patch; None: all of it.

    Raises:
        ConfigurationError: epsilon is out of range, the norm is unknown, or the window is empty or of another norm
            or space.

    Example:
        >>> ball = Ball(epsilon=8 / 255)
        >>> black = torch.zeros(1, 3, 2, 2)
        >>> float(ball.project(black + 0.5, black).max() * 255)
        8.0
    """

    epsilon: float | None
    norm: Norm = "linf"
    space: Space = PIXELS
    window: Window | None = None

    def __post_init__(self) -> None:
        if self.window is not None:
            if self.norm != "linf" or self.space is not PIXELS:
                raise ConfigurationError("a window is for images and the norm 'linf'")
            if min(self.window[:2]) < 0 or min(self.window[2:]) < 1:
                raise ConfigurationError(f"a window is top, left, height and width in pixels, not {self.window}")
        if self.norm not in ("linf", "l2"):
            raise ConfigurationError(f"norm must be 'linf' or 'l2', not {self.norm!r}")
        limit = self.space.high - self.space.low if self.norm == "linf" else math.inf
        if self.epsilon is not None and not 0 < self.epsilon <= limit:
            raise ConfigurationError(f"epsilon must lie in (0, {limit:g}], not be {self.epsilon}")

    @property
    def tolerance(self) -> float:
        """How much larger than epsilon a distance may look because of float32."""
        return 2 * SLACK / self.space.levels_per_unit

    def check(self, original: torch.Tensor) -> None:
        """Raise a `ConfigurationError` unless every original's ball contains a medium that a file can hold."""
        if self.window is not None:
            top, left, height, width = self.window
            if top + height > original.shape[-2] or left + width > original.shape[-1]:
                size = f"{original.shape[-1]} x {original.shape[-2]}"
                raise ConfigurationError(f"the window {self.window} does not fit an image of {size} pixels")
        if not self._contains(self.space.values(self._nearest(original)), original):
            bits, name = (self.space.num_levels - 1).bit_length(), self.space.name
            raise ConfigurationError(
                f"no {bits}-bit {name} lies within epsilon: round the {name}s to {bits} bits first"
            )

    def verify(self, media: torch.Tensor, original: torch.Tensor) -> None:
        """Raise an `AdapterError` unless the media lie on the space's levels, in its bounds and in the balls."""
        levels = self.space.levels(media)
        on_levels = (levels - levels.round()).abs() <= SLACK
        in_bounds = (levels >= -SLACK) & (levels <= self.space.num_levels - 1 + SLACK)
        if not (on_levels & in_bounds).all():
            raise AdapterError(f"the attack made values that no file of this {self.space.name} can hold")
        moved = (media - self._within_window(media, original)).abs().max()
        if float(moved) * self.space.levels_per_unit > 0.5 + SLACK:  # rounding the original moves it by half a level
            raise AdapterError("the attack changed pixels outside its window")
        if not self._contains(media, original):
            largest = float(self.distance(media, original).max())
            raise AdapterError(f"the attack left its ball: distance {largest} is more than epsilon {self.epsilon}")

    def distance(self, media: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return float64 (batch,): the distance of each medium from its original."""
        delta = (media.double() - original.double()).flatten(1)
        distance: torch.Tensor = torch.linalg.vector_norm(delta, ord=torch.inf if self.norm == "linf" else 2, dim=1)
        return distance

    def project(self, point: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return the nearest points in the balls, not rounded to levels."""
        point = self._within_window(point.clamp(self.space.low, self.space.high), original)
        if self.epsilon is None:
            return point
        delta = point - original
        if self.norm == "linf":
            return original + delta.clamp(-self.epsilon, self.epsilon)
        # The bounds are convex and contain both ends, so shrinking the change cannot leave them.
        return original + delta * (self.epsilon / _length(delta)).clamp_max(1)

    def direction(self, descent: torch.Tensor) -> torch.Tensor:
        """Return the step of length one, in this norm, that goes furthest along `descent`."""
        return descent.sign() if self.norm == "linf" else descent / _length(descent)

    def random_point(self, original: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a point drawn uniformly from each ball (`l2`: then projected onto the bounds)."""
        chance: Any = {"generator": generator, "device": original.device}
        if self.epsilon is None:
            anywhere = self.space.low + (self.space.high - self.space.low) * torch.rand(original.shape, **chance)
            return self._within_window(anywhere, original)
        if self.norm == "linf":
            noise = 2 * torch.rand(original.shape, **chance) - 1
            return self.project(original + noise * self.epsilon, original)
        noise = torch.randn(original.shape, **chance)
        shape = (len(original), *(1 for _ in original.shape[1:]))
        radius = torch.rand(shape, **chance) ** (1 / original[0].numel())
        return self.project(original + noise / _length(noise) * radius * self.epsilon, original)

    def round(self, media: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Round to what a file can hold without leaving the ball.

        Args:
            media: Float32 (batch, ...), any values.
            original: The centres, same shape.

        Returns:
            Float32 (batch, ...) on the space's levels and within epsilon of the original.

        Raises:
            ConfigurationError: There are none.
        """
        self.check(original)
        media = self._within_window(media, original)
        if self.epsilon is None:
            return self.space.values(self._nearest(media))
        if self.norm == "linf":
            centre, reach = self.space.levels(original), self.epsilon * self.space.levels_per_unit + SLACK
            nearest = self._nearest(media)
            inside = nearest.clamp((centre - reach).ceil(), (centre + reach).floor())
            return self.space.values(inside.clamp(0, self.space.num_levels - 1))
        projected = self.project(media, original)
        reach = self.epsilon + self.tolerance / 2
        return torch.stack([self._round_l2(*each, reach) for each in zip(projected, original, strict=True)])

    def _within_window(self, media: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return the media with the original's values outside the window."""
        if self.window is None:
            return media
        top, left, height, width = self.window
        inside = torch.zeros_like(original[:1, :1], dtype=torch.bool)
        inside[..., top : top + height, left : left + width] = True
        return torch.where(inside, media, original)

    def _contains(self, media: torch.Tensor, original: torch.Tensor) -> bool:
        if self.epsilon is None:
            return True
        return bool((self.distance(media, original) <= self.epsilon + self.tolerance).all())

    def _nearest(self, media: torch.Tensor) -> torch.Tensor:
        return self.space.levels(media).round().clamp(0, self.space.num_levels - 1)

    def _round_l2(self, point: torch.Tensor, original: torch.Tensor, reach: float) -> torch.Tensor:
        """Round one medium to the nearest levels, then move some of them back until the change is short enough.

        Each turn moves values one level towards the original's nearest level, which lies in the ball: first those
        with the smallest extra rounding error per squared length saved, and no more than needed.
        """
        wanted, inner = self.space.levels(point).flatten(), self._nearest(original).flatten()
        centre = original.double().flatten()
        levels = self._nearest(point).flatten()
        while True:
            squares = (self.space.values(levels).double() - centre) ** 2
            excess = float(squares.sum()) - reach**2
            if excess <= 0:
                return self.space.values(levels).reshape(original.shape)
            movable = torch.nonzero(levels != inner).flatten()
            here, centre_here, wanted_here = levels[movable], centre[movable], wanted[movable]
            closer = here + (inner[movable] - here).sign()
            saved = squares[movable] - (self.space.values(closer).double() - centre_here) ** 2
            lost = (closer - wanted_here) ** 2 - (here - wanted_here) ** 2
            order = torch.where(saved > 0, lost / saved, torch.inf).argsort(stable=True)
            count = int((saved[order].clamp_min(0).cumsum(0) < excess).sum()) + 1
            chosen = order[:count]
            chosen = chosen[saved[chosen] > 0]
            if not len(chosen):
                raise ConfigurationError("no medium that a file can hold lies within epsilon: use a larger epsilon")
            levels[movable[chosen]] = closer[chosen]


def _length(batch: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each row, never zero, in a shape that broadcasts against the batch."""
    shape = (len(batch), *(1 for _ in batch.shape[1:]))
    length: torch.Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1)
    return length.clamp_min(torch.finfo(batch.dtype).tiny).reshape(shape)
