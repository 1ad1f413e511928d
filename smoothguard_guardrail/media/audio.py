"""Audio: from bytes to waveforms and back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.formats import AUDIO_FORMATS

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODED = "audio/wav"
"""Media type of what `encode_audio` returns."""
MAX_CHANNELS = 8
MAX_RATE = 192_000
"""Highest sampling rate, in Hz."""
_VALUES_PER_SECOND = 96_000
"""Values per second over all channels that `max_seconds` allows for: it bounds memory."""


def decode_audio(data: bytes, *, mime_type: str, max_seconds: float, path: str) -> tuple[torch.Tensor, int]:
    """Decode audio; its channels and sampling rate are kept.

    Args:
        data: The encoded audio.
        mime_type: As sniffed from the bytes, a key of `AUDIO_FORMATS`.
        max_seconds: Longest duration; checked in the header, and again while decoding.
        path: Path of the block, for the error.

    Returns:
        The waveform, float32 (channels, samples) in [-1, 1], and its sampling rate in Hz.

    Raises:
        MediaLimitError: It is too long, or has more than 8 channels or 192,000 samples per second.
        MediaError: It is damaged or empty.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if sound.format not in AUDIO_FORMATS[mime_type]:
                raise MediaError(f"expected {mime_type} by its first bytes, got {sound.format}", path=path)
            rate, channels = int(sound.samplerate), int(sound.channels)
            _check(rate, channels, path)
            most = int(min(max_seconds * rate, max_seconds * _VALUES_PER_SECOND / channels))
            values = _read(sound, most, max_seconds, path)
    except MediaError:
        raise
    except Exception as error:  # libsndfile's errors, and what its bindings raise on hostile headers
        raise MediaError(f"the audio cannot be decoded: {error}", path=path) from error
    if not values.size:
        raise MediaError("the audio is empty", path=path)
    waveform = torch.from_numpy(np.nan_to_num(values.T.copy(), posinf=1.0, neginf=-1.0))
    return waveform.clamp_(-1, 1), rate


def _check(rate: int, channels: int, path: str) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise MediaLimitError(f"has {channels} channels; at most {MAX_CHANNELS} are allowed", path=path)
    if not 1 <= rate <= MAX_RATE:
        raise MediaLimitError(f"has {rate:,} samples per second; at most {MAX_RATE:,} are allowed", path=path)


def _read(sound: Any, most: int, max_seconds: float, path: str) -> NDArray[np.float32]:
    """Read to the end block by block: the length in a header may be wrong or missing."""
    blocks: list[NDArray[np.float32]] = []
    total = 0
    known = sound.frames if 0 <= sound.frames < 2**62 else 0
    while known <= most and total <= most:
        block = sound.read(2**18, dtype="float32", always_2d=True)
        if not len(block):
            return np.concatenate(blocks) if blocks else np.zeros((0, sound.channels), np.float32)
        blocks.append(block)
        total += len(block)
    raise MediaLimitError(f"is longer than {max_seconds:g} s", path=path)


def encode_audio(waveform: torch.Tensor, sampling_rate: int) -> bytes:
    """Encode a waveform as 16-bit WAV.

    Args:
        waveform: Float (channels, samples) in [-1, 1], on any device.
        sampling_rate: In Hz.
    """
    values = waveform.detach().clamp(-1, 1).mul(32_767).round_().to(torch.int16).cpu()
    buffer = io.BytesIO()
    soundfile.write(buffer, values.T.contiguous().numpy(), sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def decode_waveform(value: Any, *, sampling_rate: Any, max_seconds: float, path: str) -> tuple[torch.Tensor, int]:
    """Turn an in-process waveform into float32 (channels, samples) in [-1, 1].

    Args:
        value: A float tensor or array (samples,) or (channels, samples) in [-1, 1].
        sampling_rate: In Hz, as the block says.
        max_seconds: Longest duration.
        path: Path of the block, for the error.

    Raises:
        UnsupportedMediaError: It has another shape or range, or no sampling rate.
        MediaLimitError: It is too long.
    """
    if not isinstance(sampling_rate, int) or not 1 <= sampling_rate <= MAX_RATE:
        raise UnsupportedMediaError("a waveform needs an integer `sampling_rate` in Hz next to it", path=path)
    if not hasattr(value, "shape"):
        raise UnsupportedMediaError(f"expected a tensor or array as waveform, got a {type(value).__name__}", path=path)
    try:
        waveform = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    except TypeError as error:
        raise UnsupportedMediaError(f"expected floats as waveform, got {value.dtype}", path=path) from error
    if waveform.ndim == 1:
        waveform = waveform[None]
    if waveform.ndim != 2 or not 1 <= waveform.shape[0] <= MAX_CHANNELS or not waveform.shape[1]:
        raise UnsupportedMediaError(
            f"expected a waveform (samples,) or (channels, samples), got shape {tuple(value.shape)}", path=path
        )
    if waveform.shape[1] > max_seconds * sampling_rate:
        raise MediaLimitError(f"is longer than {max_seconds:g} s", path=path)
    if not waveform.is_floating_point() or not bool((waveform.abs() <= 1).all()):
        raise UnsupportedMediaError("a waveform must be floats in [-1, 1]", path=path)
    return waveform.to(torch.float32).clone(), sampling_rate


def waveform_like(waveform: torch.Tensor, original: Any) -> Any:
    """Return a waveform in the type, dtype and number of dimensions of the in-process original."""
    values = waveform.detach().cpu()
    if original.ndim == 1:
        values = values[0]
    if isinstance(original, torch.Tensor):
        return values.to(device=original.device, dtype=original.dtype)
    return values.numpy().astype(original.dtype)
