"""Damaged, lying and oversized videos, and containers of audio and of photos."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import av
import numpy as np
import pillow_heif
from PIL import Image

from benchmarks.fuzz.damage import INTEGERS, Case, damaged

VIDEOS = (
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx264", "yuv444p"),
    ("mov", "mpeg4", "yuv420p"),
    ("3gp", "mpeg4", "yuv420p"),
    ("webm", "vp8", "yuv420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("matroska", "ffv1", "yuv420p"),
    ("matroska", "libx264rgb", "rgb24"),
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("flv", "libx264", "yuv420p"),
    ("mpeg", "mpeg2video", "yuv420p"),
    ("asf", "wmv2", "yuv420p"),
    ("ogg", "vp8", "yuv420p"),
)
SOUNDS = (("mp4", "aac"), ("ipod", "alac"), ("adts", "aac"), ("webm", "libopus"), ("matroska", "flac"), ("avi", "mp2"))
REPEATABLE = {"fflags": "bitexact"}
RATES = (1, 5, 10, 30)
_HEADERS = (b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"elst", b"mdhd", b"tkhd", b"avcC", b"esds", b"stsd", b"hdlr")
"""Boxes of MP4 whose numbers lead a decoder."""


def hostile_video(rng: Random) -> Case:
    """Return one file, mostly damaged."""
    name, data = rng.choice((_video, _video, _video, _sound, _photo))(rng)
    return damaged(name, data, rng, (_set_in_box, _repeat_box), lambda: _video(rng)[1], lambda data: data)


def _video(rng: Random) -> Case:
    container, codec, pixel_format = rng.choice(VIDEOS)
    height, width = rng.choice((16, 48, 130, 322)), rng.choice((16, 64, 176, 400))
    number, rate = rng.choice((1, 2, 12, 40)), 25 if codec.startswith(("mpeg2", "wmv")) else rng.choice(RATES)
    base = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=REPEATABLE) as file:
        stream: Any = file.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, pixel_format
        stream.gop_size, stream.thread_count = rng.choice((1, 5, 100)), 1
        for index in range(number):
            frame = av.VideoFrame.from_ndarray(np.roll(base, 2 * index, axis=1), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return f"{container} {codec} {width}x{height} {number} frames", buffer.getvalue()


def _sound(rng: Random) -> Case:
    container, codec = rng.choice(SOUNDS)
    rate, seconds = (48_000 if codec == "libopus" else rng.choice((16_000, 44_100))), rng.choice((0.1, 1, 3))
    layout = rng.choice(("mono", "stereo"))
    shape = (1 if layout == "mono" else 2, int(rate * seconds))
    values = np.random.default_rng(rng.getrandbits(64)).uniform(-0.5, 0.5, shape).astype(np.float32)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=REPEATABLE) as file:
        stream: Any = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for each in (frame, None):
            file.mux(stream.encode(each))
    return f"{container} {codec} {rate} Hz {layout}", buffer.getvalue()


def _photo(rng: Random) -> Case:
    mode, size = rng.choice(("L", "RGB", "RGBA")), (rng.choice((17, 64, 300)), rng.choice((16, 65, 200)))
    values = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    noise = Image.fromarray(values).convert(mode)
    buffer = io.BytesIO()
    if rng.random() < 0.3:
        noise.save(buffer, "AVIF", speed=10)
        return f"AVIF {mode} {size}", buffer.getvalue()
    pillow_heif.from_pillow(noise).save(buffer, quality=rng.choice((10, 90)))
    return f"HEIC {mode} {size}", buffer.getvalue()


def _set_in_box(data: bytes, rng: Random) -> bytes:
    """Overwrite a number in one of the boxes that lead a decoder."""
    places = [at for name in _HEADERS if (at := data.find(name)) >= 0]
    if not places:
        return data
    at = rng.choice(places) + rng.choice((-4, 4, 8, 12, 16, 20, 24, 32))
    return data[: max(0, at)] + (rng.choice(INTEGERS) & 0xFFFFFFFF).to_bytes(4, "big") + data[max(0, at) + 4 :]


def _repeat_box(data: bytes, rng: Random) -> bytes:
    """Let a track stand in the file many times."""
    at = data.find(b"trak") - 4
    if at < 0:
        return data
    size = int.from_bytes(data[at : at + 4], "big")
    track = data[at : at + size]
    parent = data.rfind(b"moov", 0, at) - 4
    times = rng.choice((1, 20, 2_000)) if size < 5_000 else 1
    grown = (int.from_bytes(data[parent : parent + 4], "big") + times * size & 0xFFFFFFFF).to_bytes(4, "big")
    return data[:parent] + grown + data[parent + 4 : at] + track * (times + 1) + data[at + size :]
