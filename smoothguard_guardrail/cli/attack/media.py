"""The medium of `smoothguard attack`: read, as the model meets it, and written without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.attacks.waveform import wav_bytes
from smoothguard_guardrail.config import MediaLimits
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.media import audio, image
from smoothguard_guardrail.media.sniff import sniff

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.models import ChatTransformersMultimodal

MediumKind = Literal["image", "audio"]
_WORDS = {"image": "a picture", "audio": "a recording"}
_LEVELS, _SAMPLE_LEVELS = 255, 2**15


@dataclass(frozen=True, slots=True, kw_only=True)
class InputMedium:
    """The medium that is attacked, decoded as the guard decodes it."""

    kind: MediumKind
    tensor: torch.Tensor
    """float32 on the CPU: (3, height, width), multiples of 1/255 in [0, 1]; or (channels, samples) in [-1, 1]."""
    sampling_rate: int | None
    """Samples a second; None for pictures."""
    notes: tuple[str, ...]
    """What decoding did to it, as `alpha composited on white`."""


def read_medium(path: Path, kind: MediumKind) -> InputMedium:
    """Read and decode the file that is attacked.

    Raises:
        InputError: If it cannot be read, or is no picture (no recording) of a known format.
        MediaError: If it is damaged or over the guard's limits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    sniffed = sniff(data)
    known = image.FORMATS if kind == "image" else audio.FORMATS
    if sniffed is None or sniffed.mime_type not in known:
        raise InputError(f"{path} is not {_WORDS[kind]} of a known format")
    limits, where = MediaLimits(), str(path)
    if kind == "audio":
        waveform, rate = audio.decode_audio(
            data, mime_type=sniffed.mime_type, max_seconds=limits.max_seconds, path=where
        )
        return InputMedium(kind=kind, tensor=waveform, sampling_rate=rate, notes=())
    pixels, notes = image.decode_image(data, mime_type=sniffed.mime_type, max_pixels=limits.max_pixels, path=where)
    levels = pixels.mul(_LEVELS).round_().div_(_LEVELS)
    if not bool((levels - pixels).abs().max() < 1e-6):
        notes = (*notes, "rounded to 8 bits")
    return InputMedium(kind=kind, tensor=levels, sampling_rate=None, notes=notes)


def as_met(model: ChatTransformersMultimodal, medium: InputMedium) -> InputMedium:
    """Return a recording as its model hears it, one channel at the model's rate, on 16-bit levels; a picture as it is.

    Raises:
        UnsupportedMediaError: The model takes no such medium.
    """
    block = {"type": medium.kind, medium.kind: medium.tensor, "sampling_rate": medium.sampling_rate}
    conversation = model.engine.read([HumanMessage([block])])
    if medium.kind == "image":
        return medium
    heard = torch.from_numpy(conversation.recordings[0])[None]
    levels = heard.mul(_SAMPLE_LEVELS).round().clamp(-_SAMPLE_LEVELS, _SAMPLE_LEVELS - 1).div(_SAMPLE_LEVELS)
    changes = {
        "channels averaged": medium.tensor.shape[0] > 1,
        f"resampled from {medium.sampling_rate} Hz": medium.sampling_rate != model.sampling_rate,
        "rounded to 16 bits": not torch.equal(levels, heard),
    }
    notes = (*medium.notes, *(name for name, is_made in changes.items() if is_made))
    return InputMedium(kind="audio", tensor=levels, sampling_rate=model.sampling_rate, notes=notes)


def write_medium(path: Path, tensor: torch.Tensor, sampling_rate: int | None) -> None:
    """Write a picture as lossless PNG, a waveform as 16-bit WAV: under another name first, then in one move.

    Args:
        path: Where to.
        tensor: Float (3, height, width) in [0, 1], or (1, samples) in [-1, 1).
        sampling_rate: Samples a second; None for pictures.
    """
    data = image.encode_image(tensor) if sampling_rate is None else wav_bytes(tensor[0], sampling_rate)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(data)
    unfinished.replace(path)
