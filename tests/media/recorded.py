"""Small files of video, of audio and of images in containers, made by the encoders that cameras and browsers use."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import av
import numpy as np
from PIL import Image

DEFAULTS = {"libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"}}
"""No messages, and no threads: x265 has crashed in them."""


P = ParamSpec("P")
T = TypeVar("T")


def in_own_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function in a thread that ends with it.

    SVT-AV1, run by a superuser, makes the thread that calls it a real-time one, and with it every process that this
    thread starts later: a browser started so takes all cores from the others.
    """

    @wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> T:
        with ThreadPoolExecutor(1) as own_thread:
            return own_thread.submit(function, *args, **options).result()

    return run


def grey_frames(number: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Return frames that are brighter one after the other: the number of one is its value over ten."""
    return [np.full((height, width, 3), 10 * index, np.uint8) for index in range(number)]


@in_own_thread
def record_video(
    frames: Sequence[np.ndarray],
    container: str = "mp4",
    codec: str = "libx264",
    *,
    sound: np.ndarray | None = None,
    sound_codec: str = "aac",
    rate: int | Fraction = 10,
    **options: Any,
) -> bytes:
    """Encode frames (height, width, 3), uint8, and mono sound.

    Args:
        frames: At `rate` per second.
        container: FFmpeg's name of its muxer.
        codec: FFmpeg's name of the encoder.
        sound: A waveform (samples,) at 16 kHz, 8 kHz for AMR or 48 kHz for Opus.
        sound_codec: FFmpeg's name of the encoder.
        rate: Frames per second.
        **options: Of the video encoder; `pix_fmt` is the pixel format.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        pixel_format = options.pop("pix_fmt", "yuv420p")
        video: Any = (
            file.add_stream(codec, rate=rate, options=DEFAULTS.get(codec, {}) | options) if len(frames) else None
        )
        if video is not None:
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = pixel_format
        audio = None if sound is None else _add_sound(file, sound_codec)
        for pixels in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if video is not None:
            file.mux(video.encode(None))
        if audio is not None and sound is not None:
            frame = av.AudioFrame.from_ndarray(np.float32(sound)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = audio.rate, 0
            for each in (frame, None):
                file.mux(audio.encode(each))
    return buffer.getvalue()


def record_sound(sound: np.ndarray, container: str = "mp4", codec: str = "aac") -> bytes:
    """Encode mono sound in a container without video; see `record_video`."""
    return record_video([], container, sound=sound, sound_codec=codec)


def _add_sound(file: Any, codec: str) -> Any:
    rate = {"libopus": 48_000, "libopencore_amrnb": 8_000}.get(codec, 16_000)
    return file.add_stream(codec, rate=rate, layout="mono")


def photo(pixels: np.ndarray, kind: str = "HEIF", **options: Any) -> bytes:
    """Encode an image (height, width, channels), uint8, as HEIC (`HEIF`) or `AVIF`."""
    buffer = io.BytesIO()
    if kind == "AVIF":
        Image.fromarray(pixels).save(buffer, "AVIF", **options)
    else:
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, **options)
    return buffer.getvalue()
