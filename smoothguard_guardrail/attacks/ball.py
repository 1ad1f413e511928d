"""What an attacker may change: a ball around the original, within what a file can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from smoothguard_guardrail.attacks.space import PIXELS, SLACK, Space
from smoothguard_guardrail.errors import ConfigurationError

Norm = Literal["linf", "l2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ball:
    """All media of a space within `epsilon` of an original.

    Args:
        epsilon: Radius, in units of the space's values: the greatest change of one value (`linf`), or the Euclidean
            norm of the change of a whole medium (`l2`). None: only the space's bounds hold.
        norm: Which distance.
        space: Bounds and levels.

    Raises:
        ConfigurationError: If epsilon is out of range, or there is no such norm.

    Example:
        >>> ball = Ball(epsilon=8 / 255)
        >>> black = torch.zeros(1, 3, 2, 2)
        >>> float(ball.project(black + 0.5, black).max() * 255)
        8.0
    """

    epsilon: float | None
    norm: Norm = "linf"
    space: Space = PIXELS

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ConfigurationError(f"norm has to be 'linf' or 'l2', not {self.norm!r}")
        limit = self.space.high - self.space.low if self.norm == "linf" else math.inf
        if self.epsilon is not None and not 0 < self.epsilon <= limit:
            raise ConfigurationError(f"epsilon has to lie in (0, {limit:g}], not be {self.epsilon}")

    @property
    def tolerance(self) -> float:
        """By how much float32 may make a distance look greater than epsilon."""
        return 2 * SLACK / self.space.levels_per_unit

    def check(self, original: torch.Tensor) -> None:
        """Raise a `ConfigurationError` unless a medium that a file can hold lies in every original's ball."""
        nearest = self.space.values(self._nearest(original))
        if self.epsilon is not None and not (self.distance(nearest, original) <= self.epsilon + self.tolerance).all():
            bits = (self.space.num_levels - 1).bit_length()
            name = self.space.name
            raise ConfigurationError(
                f"no {bits}-bit {name} lies within epsilon: round the {name}s to {bits} bits first"
            )

    def distance(self, media: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return float64 (batch,): how far each medium is from its original."""
        delta = (media.double() - original.double()).flatten(1)
        order = torch.inf if self.norm == "linf" else 2
        distance: torch.Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1)
        return distance

    def project(self, point: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return the nearest points of the balls; values between levels stay."""
        point = point.clamp(self.space.low, self.space.high)
        if self.epsilon is None:
            return point
        delta = point - original
        if self.norm == "linf":
            return original + delta.clamp(-self.epsilon, self.epsilon)
        # Bounds are convex and hold both ends, so shrinking the change cannot leave them.
        return original + delta * (self.epsilon / _length(delta)).clamp_max(1)

    def direction(self, descent: torch.Tensor) -> torch.Tensor:
        """Return the step of length one, in this norm, that goes furthest along a vector."""
        return descent.sign() if self.norm == "linf" else descent / _length(descent)

    def random_point(self, original: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a point drawn uniformly from each ball (`l2`: then projected on the bounds)."""
        if self.epsilon is None:
            noise = torch.rand(original.shape, generator=generator, device=original.device)
            return self.space.low + (self.space.high - self.space.low) * noise
        if self.norm == "linf":
            noise = torch.rand(original.shape, generator=generator, device=original.device)
            return self.project(original + (2 * noise - 1) * self.epsilon, original)
        noise = torch.randn(original.shape, generator=generator, device=original.device)
        shape = (len(original), *(1 for _ in original.shape[1:]))
        radius = torch.rand(shape, generator=generator, device=original.device) ** (1 / original[0].numel())
        return self.project(original + noise / _length(noise) * radius * self.epsilon, original)

    def round(self, media: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Round to what a file can hold without leaving the ball.

        Args:
            media: Float32 (batch, ...), anywhere.
            original: The centres, same shape.

        Returns:
            Float32 (batch, ...) on the space's levels, within epsilon of the original, as `check` promises there is.

        Raises:
            ConfigurationError: If there is none.
        """
        self.check(original)
        if self.epsilon is None:
            return self.space.values(self._nearest(media))
        if self.norm == "linf":
            centre, reach = self.space.levels(original), self.epsilon * self.space.levels_per_unit + SLACK
            nearest = self._nearest(media)
            return self.space.values(
                nearest.clamp((centre - reach).ceil(), (centre + reach).floor()).clamp(*self._ends)
            )
        projected = self.project(media, original)
        reach = self.epsilon + self.tolerance / 2
        rows = [self._round_l2(row, centre, reach) for row, centre in zip(projected, original, strict=True)]
        return torch.stack(rows)

    @property
    def _ends(self) -> tuple[int, int]:
        return 0, self.space.num_levels - 1

    def _nearest(self, media: torch.Tensor) -> torch.Tensor:
        return self.space.levels(media).round().clamp(*self._ends)

    def _round_l2(self, point: torch.Tensor, original: torch.Tensor, reach: float) -> torch.Tensor:
        """Round one medium to the nearest levels, then take back the levels whose loss is cheapest.

        Each turn moves values one level towards the original's own nearest level, which lies in the ball. Those go
        first that rounding moved outwards most, for the length that they save, and no more than needed.
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
                raise ConfigurationError("no medium that a file can hold lies within epsilon")
            levels[movable[chosen]] = closer[chosen]


def _length(batch: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each row, in a shape that divides the batch; never zero."""
    shape = (len(batch), *(1 for _ in batch.shape[1:]))
    length: torch.Tensor = torch.linalg.vector_norm(batch.flatten(1), dim=1)
    return length.clamp_min(torch.finfo(batch.dtype).tiny).reshape(shape)
