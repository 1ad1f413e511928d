"""A new video file from perturbed frames and sound, and how much of their noise its codec leaves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from PIL import Image

from smoothguard_guardrail.config import MediaLimits, VideoConfig
from smoothguard_guardrail.errors import MediaError
from smoothguard_guardrail.media.audio import decode_audio, encode_audio, resample
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import encode_image
from smoothguard_guardrail.media.video import decode_video

MP4 = "video/mp4"
_QUALITY = {"crf": "12", "preset": "veryfast"}
"""Lower ones keep no more of the noise: what is lost is lost to 4:2:0, which averages colours over four pixels."""
_TICKS = 1000
_AUDIO_BITRATE = 192_000
_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
_NO_LIMITS = MediaLimits(
    max_bytes=2**31,
    max_pixels=2**28,
    max_decoding_mib=2**14,
    max_video_pixels=2**40,
    max_total_pixels=2**40,
    max_seconds=1e6,
)
_LEAST_SD = 2**-15
"""Weaker noise is lost in any 16-bit file."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """Writes MP4 files (H.264, every frame a key frame, and AAC) of the parts of one video.

    Args:
        seconds: When each frame is shown.
        sampling_rate: Of the sound in Hz; None if there is none.
    """

    seconds: tuple[float, ...]
    sampling_rate: int | None

    def write(self, parts: Sequence[Encoded]) -> Encoded:
        """Return a video of encoded parts: one image per entry of `seconds`, and possibly audio after them.

        Raises:
            MediaError: Its frames have different sizes.
        """
        import av

        frames = [_pixels(part) for part in parts[: len(self.seconds)]]
        height, width = frames[0].shape[:2]
        if any(frame.shape != frames[0].shape for frame in frames):
            raise MediaError('its frames have different sizes: set `send_as="frames"`', path="video")
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            video: Any = container.add_stream("libx264", options=_QUALITY)
            video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            video.gop_size, video.thread_count = 1, 1
            video.codec_context.time_base = Fraction(1, _TICKS)
            sound = [_Sound(container, part) for part in parts[len(self.seconds) :]]
            ticks = -1
            for pixels, seconds in zip(frames, self.seconds, strict=True):
                ticks = max(ticks + 1, round(seconds * _TICKS))
                frame = av.VideoFrame.from_ndarray(_even(pixels), format="rgb24")
                frame.pts, frame.time_base = ticks, Fraction(1, _TICKS)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            for each in sound:
                each.mux()
        return Encoded.of(buffer.getvalue(), MP4)

    def kept_noise(self, clean: Sequence[torch.Tensor], sds: Sequence[float]) -> list[float]:
        """Return which share of white noise on each part a new video keeps, measured on one.

        Args:
            clean: Images (3, height, width) in [0, 1], then possibly a waveform, float32.
            sds: Standard deviation of the noise on each.
        """
        generator = torch.Generator().manual_seed(0)
        noisy = []
        for part, sd in zip(clean, sds, strict=True):
            low = 0 if part.ndim == 3 else -1
            noisy.append((part + sd * torch.randn(part.shape, generator=generator)).clamp_(low, 1))
        number = len(self.seconds)
        encoded = [encode_image(part, "PNG") for part in noisy[:number]]
        encoded += [encode_audio(part, self.sampling_rate or 0) for part in noisy[number:]]
        steady = VideoFile(tuple(map(float, range(number))), self.sampling_rate)  # so that every frame is found again
        video = decode_video(
            steady.write(encoded).data,
            mime_type=MP4,
            config=VideoConfig(max_frames=256, keep_sound=True),
            limits=_NO_LIMITS,
            path="video",
            wanted_rate=lambda _: self.sampling_rate,
        )
        after = [frame.image.unit for frame in video.frames]
        after += [video.sound.waveform] if video.sound is not None else []
        return [_kept(new, made, old) for new, made, old in zip(after, noisy, clean, strict=True)]


class _Sound:
    """The audio stream of a new video."""

    def __init__(self, container: Any, part: Encoded) -> None:
        waveform, rate, _ = decode_audio(part.data, mime_type=part.mime_type, max_seconds=1e6, path="video")
        if rate not in _AAC_RATES:
            new_rate = next((each for each in _AAC_RATES if each > rate), _AAC_RATES[-1])
            waveform, rate = resample(waveform, rate, new_rate), new_rate
        self._container = container
        self._waveform = waveform.numpy()
        self._layout = "mono" if len(waveform) == 1 else f"{len(waveform)}c"
        self._stream = container.add_stream("aac", rate=rate, layout=self._layout, bit_rate=_AUDIO_BITRATE)

    def mux(self) -> None:
        import av

        frame = av.AudioFrame.from_ndarray(self._waveform, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._stream.rate, 0
        for each in (frame, None):
            self._container.mux(self._stream.encode(each))


def _pixels(part: Encoded) -> np.ndarray:
    with Image.open(io.BytesIO(part.data)) as image:
        return np.array(image.convert("RGB"))


def _even(pixels: np.ndarray) -> np.ndarray:
    """Repeat the last row and column where their number is odd: 4:2:0 needs pairs."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _kept(new: torch.Tensor, made: torch.Tensor, old: torch.Tensor) -> float:
    sd = _sd(made, old)
    return 1.0 if sd < _LEAST_SD else _sd(new, old) / sd


def _sd(noisy: torch.Tensor, clean: torch.Tensor) -> float:
    """Return the standard deviation of a change, where both have values: a codec may add rows or samples."""
    common = [slice(0, min(sides)) for sides in zip(noisy.shape, clean.shape, strict=True)]
    return float((noisy[tuple(common)] - clean[tuple(common)]).square().mean().sqrt())
