"""A medium as a page shows it: an image or a spectrogram, its change, and what can be played."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from smoothguard_guardrail.media import DecodedMedium, resize
from smoothguard_guardrail.media.audio import encode_audio
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import encode_image

MAX_SIDE = 320
"""Longest side in pixels of an image on the page. Larger ones lose whole rows and columns: averaging pixels would hide
the noise."""
MAX_SECONDS = 10.0
"""Of audio that can be played."""
_MAX_PNG_SIDE = 128
_SHOWN_SD = 0.17
"""Standard deviation of an amplified change: three of them reach from grey to black or white."""
_FFT, _FRAMES, _HEIGHT, _DECIBELS = 512, 320, 128, 80.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumView:
    """A medium to show; all images and sounds are data URIs, so nothing is fetched."""

    image: str
    """The image, or the spectrogram of audio."""
    difference: str | None = None
    """What a copy changes, around middle grey, or the spectrogram of that; None for an original."""
    amplification: float = 1.0
    """Factor of the difference."""
    sound: str | None = None
    """The first seconds of audio."""


def original_view(medium: DecodedMedium) -> MediumView:
    """Return the view of a medium as it was sent."""
    return _view(medium.tensor, medium.sampling_rate)


def copy_view(copy: DecodedMedium, original: DecodedMedium | None) -> MediumView:
    """Return the view of a copy that the model saw.

    Args:
        copy: The copy, decoded.
        original: What it is a copy of; None where that cannot be told, as for pages that are cut into bands.
    """
    values = copy.tensor
    base = None if original is None else _like(original, values)
    if base is None:
        return _view(values, copy.sampling_rate)
    change = values - base
    if copy.sampling_rate is not None:
        return _view(values, copy.sampling_rate, difference=_uri(spectrogram(change)))
    amplification = amplification_of(change)
    return _view(values, None, difference=image_uri(0.5 + amplification * change), amplification=amplification)


def image_uri(values: torch.Tensor) -> str:
    """Return an image as a data URI; float (3, height, width), values beyond [0, 1] are clipped.

    Example:
        >>> image_uri(torch.zeros(3, 8, 8))[:26]
        'data:image/png;base64,iVBO'
    """
    stride = math.ceil(max(values.shape[1:]) / MAX_SIDE)
    return _uri(values[:, ::stride, ::stride])


def amplification_of(change: torch.Tensor) -> float:
    """Return the factor that makes a change visible without clipping most of it, from 1 to 16."""
    sd = float(change.square().mean().sqrt())
    return float(min(16, max(1, round(_SHOWN_SD / sd)))) if sd else 1.0


def spectrogram(waveform: torch.Tensor) -> torch.Tensor:
    """Return the spectrogram of audio as an image: time to the right, frequency upwards, 80 dB from dark to bright.

    Args:
        waveform: Float (channels, samples) in [-1, 1].

    Returns:
        Float (3, height, width) in [0, 1].
    """
    from matplotlib import colormaps

    mono = waveform.mean(dim=0)
    padded = torch.nn.functional.pad(mono, (0, max(0, _FFT - len(mono))))
    window = torch.hann_window(_FFT)
    frames = torch.stft(padded, _FFT, max(1, len(padded) // _FRAMES), window=window, return_complex=True).abs()
    decibels = 20 * (frames / window.sum()).clamp_min(1e-8).log10()
    levels = ((decibels + _DECIBELS + 20) / _DECIBELS).clamp(0, 1).flip(0)
    fitted = torch.nn.functional.interpolate(levels[None, None], (_HEIGHT, _FRAMES), mode="area")[0, 0]
    return torch.from_numpy(colormaps["magma"](fitted.numpy())[..., :3].copy()).permute(2, 0, 1).float()


def _view(values: torch.Tensor, rate: int | None, **change: object) -> MediumView:
    if rate is None:
        return MediumView(image=image_uri(values), **change)  # type: ignore[arg-type]
    sound = encode_audio(values[:, : int(MAX_SECONDS * rate)], rate)
    return MediumView(image=_uri(spectrogram(values)), sound=_data_uri(sound), **change)  # type: ignore[arg-type]


def _like(original: DecodedMedium, values: torch.Tensor) -> torch.Tensor | None:
    """Return the original at the size of its copy; None if they cannot be compared."""
    base = original.tensor
    if original.kind == "image":
        return resize(base, (values.shape[1], values.shape[2])) if values.ndim == 3 else None
    return base if base.shape == values.shape else None


def _uri(image: torch.Tensor) -> str:
    encoding = "PNG" if max(image.shape[1:]) <= _MAX_PNG_SIDE else "JPEG 90"
    return _data_uri(encode_image(image, encoding))


def _data_uri(encoded: Encoded) -> str:
    return f"data:{encoded.mime_type};base64,{encoded.base64}"
