"""From a share to a number."""

from __future__ import annotations

import math


def at_least(share: float, total: int) -> int:
    """Return the smallest number that is at least this share of a total, and at least 1.

    Example:
        >>> at_least(0.35, 8), at_least(0.5, 8), at_least(0.125, 4)
        (3, 4, 1)
    """
    return max(1, math.ceil(share * total - 1e-9))  # 0.7 * 10 is a little more than 7
