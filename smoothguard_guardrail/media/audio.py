"""Audio: from bytes to waveforms and back."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import soundfile
import torch

from smoothguard_guardrail.errors import MediaError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media.formats import AUDIO_FORMATS, Encoded

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CHANNELS = 8
MAX_RATE = 192_000
"""Highest sampling rate, in Hz."""
_BLOCK = 2**18
"""Samples that are decoded at once."""
_UNKNOWN_FRAMES = 2**36 - 1
"""From this number of samples on, a header states nothing; it is the largest that FLAC can."""
_VALUES_PER_SECOND = 96_000
"""Values per second over all channels that `max_seconds` allows for: it bounds memory."""


RateRule = Callable[[int], int | None]
"""From a sampling rate to the one that audio is wanted at, as one channel; None: as it is."""


class DecodedAudio(NamedTuple):
    """Audio and its own duration."""

    waveform: torch.Tensor
    """float32 (channels, samples) in [-1, 1]."""
    sampling_rate: int
    """In Hz."""
    duration: float
    """Seconds of the original."""


def decode_audio(
    data: bytes, *, mime_type: str, max_seconds: float, path: str, wanted: RateRule | None = None
) -> DecodedAudio:
    """Decode audio.

    Args:
        data: The encoded audio.
        mime_type: As sniffed from the bytes, a key of `AUDIO_FORMATS`.
        max_seconds: Longest duration; checked in the header, and again while decoding.
        path: Path of the block, for the error.
        wanted: The rate to return it at, as one channel, which saves memory; None: its own channels and rate.

    Raises:
        MediaLimitError: It is too long, or has more than 8 channels or 192,000 samples per second.
        MediaError: It is damaged or empty.
    """
    if mime_type == "audio/wav":
        data = with_lengths(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if sound.format not in AUDIO_FORMATS[mime_type]:
                raise MediaError(f"expected {mime_type} by its first bytes, got {sound.format}", path=path)
            rate, channels = int(sound.samplerate), int(sound.channels)
            sound.seekable = lambda: False  # soundfile seeks after every block, which fails where no length is stated
            stated = sound.frames / max(1, rate) if 0 <= sound.frames < _UNKNOWN_FRAMES else 0.0
            return join_blocks(
                _blocks(sound), rate, channels, stated=stated, max_seconds=max_seconds, path=path, wanted=wanted
            )
    except MediaError:
        raise
    except Exception as error:  # libsndfile's errors, and what its bindings raise on hostile headers
        raise MediaError(
            f"the audio cannot be decoded: it begins like {mime_type}, but is damaged", path=path
        ) from error


def join_blocks(
    blocks: Iterable[NDArray[np.float32]],
    rate: int,
    channels: int,
    *,
    stated: float,
    max_seconds: float,
    path: str,
    wanted: RateRule | None,
) -> DecodedAudio:
    """Join decoded blocks under the limits.

    Args:
        blocks: Each (samples, channels); decoded one by one, since the length in a header may be wrong or missing.
        rate: Sampling rate in Hz.
        channels: Number of channels.
        stated: Seconds that the header states; 0 if it does not.
        max_seconds: Longest duration.
        path: Path of the block, for the error.
        wanted: See `decode_audio`.

    Raises:
        MediaLimitError: It is too long, or has too many channels or samples per second.
        MediaError: It is empty.
    """
    _check(rate, channels, path)
    most = int(min(max_seconds * rate, max_seconds * _VALUES_PER_SECOND / channels))
    if stated * rate > most:
        raise MediaLimitError(f"is longer than {max_seconds:g} s", path=path)
    new_rate = None if wanted is None else wanted(rate)
    counted = _counted(blocks, most, max_seconds, path)
    if new_rate is None:
        found = [torch.from_numpy(block.T) for block in counted]
        waveform = torch.cat(found, dim=1) if found else torch.zeros(channels, 0)
    else:
        waveform = _resampled((block.mean(axis=1) for block in counted), rate, new_rate)[None]
    if not waveform.numel():
        raise MediaError("the audio is empty", path=path)
    rate = rate if new_rate is None else new_rate
    return DecodedAudio(waveform.clamp_(-1, 1), rate, waveform.shape[1] / rate)


def with_lengths(data: bytes) -> bytes:
    """Return a WAV file whose header states how long it is: those that were streamed state nothing, or everything.

    Sizes of zero or 0xFFFFFFFF mean to the end of the file.
    """
    if data[:4] != b"RIFF":
        return data
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        rest = len(data) - at - 8
        if name == b"data":
            if size == 0 or size > rest:
                fixed = rest.to_bytes(4, "little")
                return b"RIFF" + (len(data) - 8).to_bytes(4, "little") + data[8 : at + 4] + fixed + data[at + 8 :]
            return data
        at += 8 + size + size % 2
    return data


def _check(rate: int, channels: int, path: str) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise MediaLimitError(f"has {channels} channels; at most {MAX_CHANNELS} are allowed", path=path)
    if not 1 <= rate <= MAX_RATE:
        raise MediaLimitError(f"has {rate:,} samples per second; at most {MAX_RATE:,} are allowed", path=path)


def _blocks(sound: Any) -> Iterator[NDArray[np.float32]]:
    """Read to the end block by block, (samples, channels)."""
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block


def _counted(
    blocks: Iterable[NDArray[np.float32]], most: int, max_seconds: float, path: str
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks, without what is not a number, until there are too many samples."""
    total = 0
    for block in blocks:
        total += len(block)
        if total > most:
            raise MediaLimitError(f"is longer than {max_seconds:g} s", path=path)
        yield np.nan_to_num(block, copy=False, posinf=1.0, neginf=-1.0)


def resample(waveform: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """Average the channels of a waveform and resample it.

    Args:
        waveform: Float (channels, samples).
        rate: Its sampling rate in Hz.
        new_rate: The sampling rate that is wanted.

    Returns:
        Float32 (1, new number of samples).
    """
    mono = np.asarray(waveform.mean(dim=0), dtype=np.float32)
    blocks = (mono[start : start + _BLOCK] for start in range(0, len(mono), _BLOCK))
    return _resampled(blocks, rate, new_rate)[None]


def _resampled(blocks: Iterable[NDArray[np.float32]], rate: int, new_rate: int) -> torch.Tensor:
    """Resample consecutive blocks of one channel without holding all of them at the old rate."""
    if rate == new_rate:
        found = [torch.from_numpy(block) for block in blocks]
        return torch.cat(found) if found else torch.zeros(0)
    from scipy.signal import firwin, resample_poly

    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    half = 10 * max(up, down)
    kernel = firwin(2 * half + 1, 1 / max(up, down), window=("kaiser", 5.0))  # resample_poly's own
    # Samples that the filter sees to each side; a multiple of `down`, so that pieces begin at a new sample.
    margin = -(-half // (up * down)) * down
    skipped = margin // down * up
    buffer, resampled = np.zeros(margin, np.float32), []
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        length = max(0, len(buffer) - 2 * margin) // down * down
        if length:
            piece = resample_poly(buffer[: length + 2 * margin], up, down, window=kernel)
            resampled.append(piece[skipped : skipped + length // down * up].astype(np.float32))
            buffer = buffer[length:]
    length = -(-(len(buffer) - margin) * up // down)
    piece = resample_poly(np.pad(buffer, (0, margin)), up, down, window=kernel)
    resampled.append(piece[skipped : skipped + length].astype(np.float32))
    return torch.cat([torch.from_numpy(piece) for piece in resampled])  # unlike NumPy, lets other threads run


def encode_audio(waveform: torch.Tensor, sampling_rate: int) -> Encoded:
    """Encode a waveform as 16-bit WAV.

    Args:
        waveform: Float (channels, samples) in [-1, 1], on any device.
        sampling_rate: In Hz.
    """
    buffer = io.BytesIO()
    form: Any = {"format": "WAV", "subtype": "PCM_16"}
    with soundfile.SoundFile(buffer, "w", sampling_rate, waveform.shape[0], **form) as sound:
        for part in torch.split(waveform.detach(), _BLOCK, dim=1):
            values = part.clamp(-1, 1).mul_(32_767).round_().to(torch.int16).cpu()
            sound.write(values.T.contiguous().numpy())
    return Encoded.of(buffer.getvalue(), "audio/wav")


def decode_waveform(value: Any, *, sampling_rate: Any, max_seconds: float, path: str) -> DecodedAudio:
    """Turn an in-process waveform into a tensor; its channels and sampling rate are kept.

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
    return DecodedAudio(waveform.to(torch.float32).clone(), sampling_rate, waveform.shape[1] / sampling_rate)


def waveform_like(waveform: torch.Tensor, original: Any) -> Any:
    """Return a waveform in the type, dtype and number of dimensions of the in-process original."""
    values = waveform.detach().cpu()
    if original.ndim == 1:
        values = values[0]
    if isinstance(original, torch.Tensor):
        return values.to(device=original.device, dtype=original.dtype)
    return values.numpy().astype(original.dtype)
