"""At what size media are wanted, which is decided before they are decoded in full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Sizing(Protocol):
    """The size and rate at which a model sees media."""

    def image_size(self, height: int, width: int, hints: Mapping[str, Any]) -> tuple[int, int]:
        """Return the height and width at which an image of a height and width is wanted.

        Args:
            height: In pixels.
            width: In pixels.
            hints: What the image's block says about its size, such as `{"detail": "low"}`; see
                `dialects.SIZE_HINTS`.
        """
        ...

    def sampling_rate(self, rate: int) -> int | None:
        """Return the rate in Hz at which audio is wanted, as one channel; None: as it is."""
        ...
