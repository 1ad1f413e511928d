"""What a found medium becomes: one tensor to perturb, or several where it is a file of pages or frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail.media.image import to_unit
from smoothguard_guardrail.result import Medium

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from smoothguard_guardrail.media.audio import DecodedAudio
    from smoothguard_guardrail.media.formats import Encoded
    from smoothguard_guardrail.media.found_medium import Found
    from smoothguard_guardrail.media.image import DecodedImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A file of several media, its parts, which are perturbed one by one; all parts share it."""

    as_blocks: bool
    """Whether a block for each part may stand for the file; otherwise a new file of the perturbed parts does."""
    write: Callable[[Sequence[Encoded]], Encoded]
    """Makes that new file from the encoded parts, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMedium:
    """One medium to perturb."""

    kind: Literal["image", "audio"]
    values: torch.Tensor
    """On the CPU: (3, height, width), uint8 or float32 in [0, 1]; or (channels, samples), float32 in [-1, 1]."""
    sampling_rate: int | None
    """In Hz; None for images."""
    record: Medium
    found: Found
    """Where it is; the parts of a container share it, and follow each other."""
    hints: dict[str, Any] = field(default_factory=dict)
    """What its block says about the size that it is wanted at."""
    container: Container | None = None
    """The file that it is a part of."""
    caption: str = ""
    """Text that stands before a part where blocks stand for its file."""

    @property
    def tensor(self) -> torch.Tensor:
        """The values as float32: (3, height, width) in [0, 1], or (channels, samples) in [-1, 1]."""
        return to_unit(self.values) if self.kind == "image" else self.values

    @property
    def can_be_several(self) -> bool:
        """Whether the bands of an image may stand for it: as blocks of a list, or as parts of a new file."""
        return self.container is not None or self.found.can_be_several

    def becomes_blocks(self, *, as_tensors: bool) -> bool:
        """Return whether a block of this package's choice stands for it in a request, instead of bytes in its own.

        Args:
            as_tensors: Whether the model takes blocks with tensors.
        """
        if self.container is None:
            return as_tensors and self.found.replaceable
        return self.found.can_be_several if as_tensors else self.container.as_blocks


def image_medium(
    found: Found, decoded: DecodedImage, hints: dict[str, Any], facts: dict[str, Any], *, part: str = ""
) -> DecodedMedium:
    """Return a decoded image with its record.

    Args:
        found: Where it is.
        decoded: The image.
        hints: What its block says about its size.
        facts: What else is known for the record.
        part: Which part of a container it is, such as `.pages[3]`.
    """
    record = Medium(path=found.path + part, action="perturbed", size=decoded.size, notes=decoded.notes, **facts)
    return DecodedMedium(
        kind="image", values=decoded.pixels, sampling_rate=None, record=record, found=found, hints=hints
    )


def audio_medium(found: Found, heard: DecodedAudio, facts: dict[str, Any]) -> DecodedMedium:
    """Return decoded audio with its record."""
    record = Medium(path=found.path, action="perturbed", duration=heard.duration, **facts)
    return DecodedMedium(
        kind="audio", values=heard.waveform, sampling_rate=heard.sampling_rate, record=record, found=found
    )
