"""What a model reports about the images that it sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model reports about the images that it sees; the defaults describe a model that reports nothing.

    Example:
        >>> ModelInfo.of(object()).image_size is None
        True
    """

    accepts_tensors: bool = False
    """Whether media may reach it as tensors, without being encoded."""
    image_size: int | None = None
    """Side in pixels to which it resizes every image; None where that varies or is unknown."""
    image_std: tuple[float, float, float] | None = None
    """Standard deviation per channel that it divides pixels by; None where it is unknown."""

    @classmethod
    def of(cls, model: Any) -> ModelInfo:
        """Read a model's attributes."""
        std = getattr(model, "image_std", None)
        return cls(
            accepts_tensors=bool(getattr(model, "accepts_tensors", False)),
            image_size=getattr(model, "image_size", None),
            image_std=None if std is None else tuple(std),
        )
