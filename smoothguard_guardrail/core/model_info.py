"""What is known of the media that a model sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableBinding
from pydantic import BaseModel

from smoothguard_guardrail.core.provider_sizes import documented_size
from smoothguard_guardrail.core.wrapped_models import find_models

ImageSize = Callable[[int, int], tuple[int, int]]
"""From an image's height and width to those at which the model sees it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What is known of the media that a model sees; the defaults describe a model of which nothing is known.

    A model of your own reports it by attributes of the same names, or `image_input_size` and `image_noise_gain` as
    methods.

    Example:
        >>> ModelInfo.find(object()).known_by
        'nothing'
    """

    accepts_tensors: bool = False
    """Whether media may reach it as tensors, without being encoded."""
    image_std: tuple[float, float, float] | None = None
    """Standard deviation per channel that it divides pixels by; None where it is unknown."""
    image_input_size: ImageSize | None = None
    """At what size it sees an image of a size; None where that is unknown."""
    image_noise_gain: Callable[[int, int], float] | None = None
    """Standard deviation that noise of 1 on an image of a height and width has at its input; None: 1, at the size of
    `image_input_size`."""
    sampling_rate: int | None = None
    """Of the audio that it hears, in Hz; None where it is unknown."""
    known_by: Literal["measurement", "documentation", "nothing"] = "nothing"
    """How the size is known: the model itself measures it, or its provider documents it."""

    @classmethod
    def find(cls, runnable: Any) -> ModelInfo:
        """Find what is known of the chat models in a Runnable, whatever wraps them; the first one that is known counts.

        Args:
            runnable: A chat model, bound, with retries or fallbacks, in a sequence, ...
        """
        found = [cls._of(model) for model in find_models(runnable)] or [cls._of(runnable)]
        known = next((info for info in found if info.known_by != "nothing"), found[0])
        bound = runnable
        while isinstance(bound, RunnableBinding):
            bound = bound.bound
        # Tensors would not survive the other steps of a sequence, or reach a fallback that takes none.
        reached = isinstance(bound, BaseChatModel) or not isinstance(bound, BaseModel)
        return known if reached else replace(known, accepts_tensors=False)

    @classmethod
    def _of(cls, model: Any) -> ModelInfo:
        std = getattr(model, "image_std", None)
        size = getattr(model, "image_input_size", None)
        documented = documented_size(model) if size is None else None
        return cls(
            accepts_tensors=bool(getattr(model, "accepts_tensors", False)),
            image_std=None if std is None else tuple(std),
            image_input_size=size or documented,
            image_noise_gain=getattr(model, "image_noise_gain", None),
            sampling_rate=getattr(model, "sampling_rate", None),
            known_by="measurement" if size else "documentation" if documented else "nothing",
        )
