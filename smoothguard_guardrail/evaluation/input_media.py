"""The media that attacks start from: read as the guard reads them, and converted to what the model gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.attacks import wav_bytes
from smoothguard_guardrail.config import MediaLimits
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.media import audio, image
from smoothguard_guardrail.media.formats import AUDIO_FORMATS, HEAD, IMAGE_FORMATS, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.models import ChatTransformersMultimodal

MediumKind = Literal["image", "audio"]
_LEVELS, _SAMPLE_LEVELS = 255, 2**15


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMedium:
    """A medium, decoded as the guard decodes it."""

    kind: MediumKind
    tensor: torch.Tensor
    """float32 on the CPU: (3, height, width), multiples of 1/255 in [0, 1]; or (channels, samples) in [-1, 1]."""
    sampling_rate: int | None
    """Samples per second; None for images."""
    notes: tuple[str, ...]
    """What decoding did to it, such as `alpha composited on white`."""

    @property
    def block(self) -> dict[str, Any]:
        """A content block with exactly these values."""
        return {"type": self.kind, self.kind: self.tensor, "sampling_rate": self.sampling_rate}

    def encode(self, tensor: torch.Tensor) -> bytes:
        """Return values of this medium's shape as a file: PNG, or 16-bit WAV with one channel."""
        if self.sampling_rate is None:
            return image.encode_png(tensor)
        return wav_bytes(tensor[0], self.sampling_rate)


def read_medium(path: Path) -> InputMedium:
    """Read and decode an image or audio file.

    Raises:
        InputError: It cannot be read, or is not an image or audio file of a known format.
        MediaError: It is damaged or exceeds the guard's limits.
    """
    data = _read(path)
    sniffed = sniff(data)
    mime_type, limits, where = sniffed and sniffed.mime_type, MediaLimits(), str(path)
    if mime_type in AUDIO_FORMATS:
        heard = audio.decode_audio(data, mime_type=mime_type, max_seconds=limits.max_seconds, path=where)
        return InputMedium(kind="audio", tensor=heard.waveform, sampling_rate=heard.sampling_rate, notes=())
    if mime_type not in IMAGE_FORMATS:
        raise InputError(f"{path}: expected an image or audio file of a known format")
    decoded = image.decode_image(data, mime_type=mime_type, limits=limits, path=where)
    pixels, notes = decoded.unit, decoded.notes
    levels = pixels.mul(_LEVELS).round_().div_(_LEVELS)
    if not bool((levels - pixels).abs().max() < 1e-6):
        notes = (*notes, "rounded to 8 bits")
    return InputMedium(kind="image", tensor=levels, sampling_rate=None, notes=notes)


def read_image(path: Path) -> torch.Tensor:
    """Return an image as the guard decodes it, in 8-bit steps: float32 (3, height, width) in [0, 1].

    Raises:
        InputError: It cannot be read, or is not an image.
        MediaError: It is damaged or too large.
    """
    if kind_of(path) != "image":
        raise InputError(f"{path}: expected an image, got audio")
    return read_medium(path).tensor


def kind_of(path: Path) -> MediumKind:
    """Return whether a file is an image or audio, from its first bytes.

    Raises:
        InputError: It cannot be read, or is neither of a known format.
    """
    sniffed = sniff(_read(path, HEAD))
    if sniffed is not None and sniffed.mime_type in AUDIO_FORMATS:
        return "audio"
    if sniffed is not None and sniffed.mime_type in IMAGE_FORMATS:
        return "image"
    raise InputError(f"{path}: expected an image or audio file of a known format")


def as_model_input(model: ChatTransformersMultimodal, medium: InputMedium) -> InputMedium:
    """Return audio as the model gets it: one channel at its rate, on 16-bit levels; an image as it is.

    Raises:
        UnsupportedMediaError: The model does not take such a medium.
    """
    conversation = model.engine.read([HumanMessage([medium.block])])
    if medium.kind == "image":
        return medium
    mono = torch.from_numpy(conversation.audio[0])[None]
    levels = mono.mul(_SAMPLE_LEVELS).round().clamp(-_SAMPLE_LEVELS, _SAMPLE_LEVELS - 1).div(_SAMPLE_LEVELS)
    changes = {
        "channels averaged": medium.tensor.shape[0] > 1,
        f"resampled from {medium.sampling_rate} Hz": medium.sampling_rate != model.sampling_rate,
        "rounded to 16 bits": not torch.equal(levels, mono),
    }
    notes = (*medium.notes, *(name for name, is_made in changes.items() if is_made))
    return InputMedium(kind="audio", tensor=levels, sampling_rate=model.sampling_rate, notes=notes)


def _read(path: Path, num_bytes: int = -1) -> bytes:
    """Return the first bytes of a file, by default all."""
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
