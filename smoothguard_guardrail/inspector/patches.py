"""Where in an image the answer comes from: windows are covered, one at a time, and the model is asked about each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from markupsafe import Markup

from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.inspector.medium_view import MediumView, image_uri
from smoothguard_guardrail.inspector.run import GuardedRun, record
from smoothguard_guardrail.inspector.views import STANCES, render_macro
from smoothguard_guardrail.media import prepare, resize
from smoothguard_guardrail.perturbations import CoverWindows, covering_windows

if TYPE_CHECKING:
    import threading

    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.perturbations.cover import Window

_RED = (0.9, 0.1, 0.1)
_MIX = 0.75
"""Share of red where every window changes the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A covered image whose answer differs."""

    view: MediumView
    text: str
    stance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMap:
    """Answers about an image with each of its windows covered."""

    image: torch.Tensor
    """Float32 (3, height, width) in [0, 1], at the size at which the windows were covered."""
    windows: tuple[Window, ...]
    run: GuardedRun
    """A finished run: its first sample saw the image uncovered, the others one window each, in order."""

    @property
    def answer(self) -> str:
        """The answer about the uncovered image."""
        return self.run.texts[0] or ""

    @property
    def flipped(self) -> tuple[bool, ...]:
        """For each window: whether the answer means something else once it is covered. A failed call does not."""
        result = self.run.result
        samples = result.samples if result else ()
        return tuple(each.cluster not in (None, samples[0].cluster) for each in samples[1:])

    @property
    def heat(self) -> torch.Tensor:
        """For each pixel, the share of the windows over it that change the answer: float32 (height, width)."""
        covers, flips = torch.zeros(2, *self.image.shape[1:])
        for (top, left, height, width), flipped in zip(self.windows, self.flipped, strict=True):
            covers[top : top + height, left : left + width] += 1
            flips[top : top + height, left : left + width] += flipped
        share: torch.Tensor = flips / covers.clamp_min(1)
        return share


def map_patches(
    model: Runnable[Any, Any],
    messages: Sequence[BaseMessage],
    config: SmoothGuardConfig,
    *,
    patch: float = 0.15,
    per_axis: int = 6,
    stop: threading.Event | None = None,
) -> Iterator[GuardedRun | PatchMap]:
    """Cover every window of an image and ask about each; yields the run as it grows, and at last the map.

    The windows are those of patch certificates: any patch of the size lies within one of them.

    Args:
        model: A chat model, or any Runnable from messages to a message or text.
        messages: The request, with exactly one image.
        config: How media are decoded and answers grouped.
        patch: Sides of the largest patch, as a share of the image's sides, in (0, 1].
        per_axis: Windows along each axis.
        stop: Set by anyone who wants the run to end; the map is then left out.

    Raises:
        ConfigurationError: The request does not have exactly one image, or a number is out of range.
        MediaError: The image cannot be decoded.
        QuorumError: Too few calls answered.
        Exception: What the call about the uncovered image raised.
    """
    sizing = ModelInput(config=config, model_info=ModelInfo.find(model))
    media = prepare(messages, config.media, sizing).media
    if len(media) != 1 or media[0].kind != "image":
        raise ConfigurationError(f"a map of patches needs exactly one image, the request has {len(media)} media")
    width, height = media[0].record.size or (0, 0)
    size = sizing.image_size(height, width, media[0].hints)
    largest = (max(1, round(patch * size[0])), max(1, round(patch * size[1])))
    windows = covering_windows(size, largest, per_axis)
    covered = config.override(
        num_samples=1 + len(windows),
        include_clean=True,
        early_stop=None,
        vote={"min_agreement": 0.0, "min_successes": None, "on_abstain": "answer"},
    )
    components = GuardComponents(image_perturber=_NextWindows(windows))
    run = None
    for run in record(model, messages, covered, components=components, stop=stop):
        yield run
    if run is None or run.result is None:
        return
    if isinstance(run.outcomes[0], Exception):
        raise run.outcomes[0]  # there is no answer to compare with
    yield PatchMap(image=resize(media[0].tensor, size), windows=tuple(windows), run=run)


class _NextWindows:
    """Covers the next windows with every wave: a perturber is not told which samples a wave has."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._left = list(windows)

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Cover one window of each copy."""
        now, self._left = self._left[: len(batch)], self._left[len(batch) :]
        return CoverWindows([[window] for window in now])(batch, generator=generator)


def render_patches(found: PatchMap) -> Markup:
    """Return the heat map and the answers that differ as HTML."""
    grey = found.image.mean(dim=0, keepdim=True)
    faded = 0.25 + 0.6 * (found.image + grey) / 2  # the colours of the image must not pass for heat
    weight = _MIX * found.heat
    image = faded * (1 - weight) + torch.tensor(_RED)[:, None, None] * weight
    return render_macro("patches", found=found, image=image_uri(image), flips=_flips(found))


def _flips(found: PatchMap) -> list[Flip]:
    samples = found.run.result.samples if found.run.result else ()
    return [
        Flip(view=views[0], text=sample.text or "", stance=STANCES[sample.stance or "answers"])
        for sample, views, flipped in zip(samples[1:], found.run.copies[1:], found.flipped, strict=True)
        if flipped
    ]
