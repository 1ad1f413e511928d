"""The points that no other point beats."""

from __future__ import annotations

from collections.abc import Sequence


def pareto(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points that no other point dominates; lower is better in every coordinate.

    A point dominates another if it is as low or lower in every coordinate, and lower in one.

    Example:
        >>> pareto([(0.1, 5.0), (0.2, 3.0), (0.2, 5.0)])
        [0, 1]
    """
    return [index for index, point in enumerate(points) if not any(_dominates(other, point) for other in points)]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
