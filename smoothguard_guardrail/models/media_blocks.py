"""Media blocks of messages as the numbers that a processor takes. Opens no URL and no path."""

from __future__ import annotations

import base64
import binascii
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from smoothguard_guardrail.errors import MediaError, UnsupportedMediaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_REFERENCE_KEYS = ("url", "file_id", "path", "id", "image_url")


def image_from_block(block: Mapping[str, Any], *, path: str) -> torch.Tensor:
    """Read the picture of a block.

    Args:
        block: `{"type": "image", "image": tensor or PIL image}`, a v1 or v0 block with base64 data, or an
            OpenAI `image_url` block with a data URI.
        path: Where the block stands, for the error.

    Returns:
        Float32 (3, height, width) in [0, 1].

    Raises:
        UnsupportedMediaError: The block holds a reference, or nothing that is understood.
        MediaError: The data is no picture.
    """
    value = block.get("image")
    if isinstance(value, torch.Tensor):
        return _checked_pixels(value, path=path)
    if isinstance(value, Image.Image):
        return _pixels(value)
    data = _data(block, kind="picture", path=path)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _pixels(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"not a picture that Pillow reads ({error})", path=path) from error


def audio_from_block(block: Mapping[str, Any], *, sampling_rate: int, path: str) -> NDArray[np.float32]:
    """Read the recording of a block, as one channel at the model's rate.

    Args:
        block: `{"type": "audio", "audio": tensor, "sampling_rate": Hz}`, a v1 or v0 block with base64 data,
            or an OpenAI `input_audio` block.
        sampling_rate: What the model wants, in Hz.
        path: Where the block stands, for the error.

    Returns:
        Float32 (num_samples,), in [-1, 1] as far as the recording is.

    Raises:
        UnsupportedMediaError: The block holds a reference, or nothing that is understood.
        MediaError: The data is no recording, or the waveform has a wrong shape, type or rate.
    """
    value = block.get("audio")
    if isinstance(value, torch.Tensor):
        rate = block.get("sampling_rate")
        if not isinstance(rate, int) or rate <= 0:
            raise MediaError("a waveform needs its 'sampling_rate' in Hz beside it", path=path)
        waveform = _checked_waveform(value, path=path)
    else:
        waveform, rate = _decoded(_data(block, kind="recording", path=path), path=path)
    if rate == sampling_rate:
        return waveform
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, sampling_rate)
    resampled = resample_poly(waveform, sampling_rate // divisor, rate // divisor)
    return np.asarray(resampled, dtype=np.float32)


def _checked_pixels(image: torch.Tensor, *, path: str) -> torch.Tensor:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or image.numel() == 0:
        got = f"{tuple(image.shape)} {image.dtype}"
        raise MediaError(f"an image tensor has to be floating point (3, height, width), not {got}", path=path)
    image = image.detach().to(torch.float32)
    if not (image.min() >= 0 and image.max() <= 1):
        raise MediaError("an image tensor has to lie in [0, 1]", path=path)
    return image


def _pixels(picture: Image.Image) -> torch.Tensor:
    values = np.array(picture.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(values).permute(2, 0, 1).to(torch.float32).div_(255)


def _checked_waveform(waveform: torch.Tensor, *, path: str) -> NDArray[np.float32]:
    if waveform.ndim not in (1, 2) or not waveform.is_floating_point() or waveform.numel() == 0:
        reason = "a waveform has to be floating point (num_samples,) or (channels, num_samples)"
        raise MediaError(f"{reason}, not {tuple(waveform.shape)} {waveform.dtype}", path=path)
    mono = waveform.detach().to("cpu", torch.float32)
    return np.asarray(mono.mean(dim=0) if mono.ndim == 2 else mono, dtype=np.float32)


def _decoded(data: bytes, *, path: str) -> tuple[NDArray[np.float32], int]:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise MediaError(f"not a recording that soundfile reads ({error})", path=path) from error
    if samples.size == 0:
        raise MediaError("the recording is empty", path=path)
    return np.asarray(samples.mean(axis=1), dtype=np.float32), int(rate)


def _data(block: Mapping[str, Any], *, kind: str, path: str) -> bytes:
    """Find the inline bytes of a block, whichever of the understood shapes it has."""
    inner = block.get("image_url") or block.get("input_audio") or block
    if isinstance(inner, str):
        inner = {"url": inner}
    if not isinstance(inner, dict):
        raise UnsupportedMediaError(f"not a {kind} block that is understood", path=path)
    encoded = inner.get("base64") or inner.get("data")
    url = inner.get("url")
    if encoded is None and isinstance(url, str) and url[:5].lower() == "data:":
        header, _, encoded = url.partition(",")
        if not header.lower().endswith(";base64"):
            raise UnsupportedMediaError("a data URI has to be base64 encoded", path=path)
    if isinstance(encoded, bytes):
        encoded = encoded.decode("ascii", errors="replace")
    if not isinstance(encoded, str) or not encoded:
        held = [key for key in _REFERENCE_KEYS if inner.get(key)]
        reason = f"references ({', '.join(held)}) are never opened" if held else "no inline data in the block"
        raise UnsupportedMediaError(f"{reason}: load the {kind} yourself and pass it as base64", path=path)
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"the {kind} is not valid base64 ({error})", path=path) from error
