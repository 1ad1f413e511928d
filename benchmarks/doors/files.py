"""Small files of every kind of medium that people send, each made on the spot."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any

import av
import numpy as np
import pillow_heif
import pypdfium2
import soundfile
from PIL import Image

WIDTH, HEIGHT = 64, 48
RATE = 16_000
SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An encoded medium."""

    name: str
    mime_type: str
    data: bytes
    is_text_in_text: bool = False
    """Whether its bytes, inside a text, are no more than text: markup, or a format that nothing recognises."""

    @property
    def base64(self) -> str:
        """The bytes as base64."""
        return b64encode(self.data).decode()

    @property
    def uri(self) -> str:
        """The bytes as a data URI."""
        return f"data:{self.mime_type};base64,{self.base64}"

    @property
    def kind(self) -> str:
        """What blocks of LangChain's call it: `image`, `audio`, `video` or `file`."""
        kind = self.mime_type.partition("/")[0]
        return kind if kind in ("image", "audio", "video") else "file"


@cache
def files() -> tuple[File, ...]:
    """Return a file of each format; the last ones cannot be guarded."""
    images = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF", "avif": "AVIF"}
    sounds = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mpeg": "MP3"}
    made = [(name, f"image/{name}", _image(kind)) for name, kind in images.items()]
    made += [("heic", "image/heic", _heic())]
    made += [(name, f"audio/{name}", _sound(kind)) for name, kind in sounds.items()]
    made += [("m4a", "audio/mp4", _movie("mp4", audio="aac")), ("weba", "audio/webm", _movie("webm", audio="libopus"))]
    made += [("mp4", "video/mp4", _movie("mp4", video="libx264", audio="aac"))]
    made += [
        ("webm", "video/webm", _movie("webm", video="libvpx", audio="libopus")),
        ("pdf", "application/pdf", _pdf()),
    ]
    made += [("svg", "image/svg+xml", _svg()), ("psd", "image/vnd.adobe.photoshop", b"8BPS\0\x01" + bytes(200))]
    made += [("unknown", "application/octet-stream", bytes(range(256)) * 4)]
    return tuple(
        File(name=name, mime_type=mime_type, data=data, is_text_in_text=name in ("svg", "unknown"))
        for name, mime_type, data in made
    )


def _pixels() -> Any:
    return np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def _waveform() -> Any:
    return (0.3 * np.sin(np.arange(int(SECONDS * RATE)) / 9)).astype(np.float32)


def _image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_pixels()).save(buffer, kind)
    return buffer.getvalue()


def _heic() -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(_pixels())).save(buffer)
    return buffer.getvalue()


def _sound(kind: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, _waveform(), RATE, format=kind)
    return buffer.getvalue()


def _movie(container: str, *, video: str | None = None, audio: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        streams = []
        if video:
            pictures = output.add_stream(video, rate=8)
            pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            streams.append((pictures, [av.VideoFrame.from_ndarray(_pixels(), format="rgb24") for _ in range(4)]))
        if audio:
            sound = output.add_stream(audio, rate=48_000)
            frame = av.AudioFrame.from_ndarray(_waveform()[None], format="flt", layout="mono")
            frame.sample_rate = RATE
            streams.append((sound, [frame]))
        for stream, frames in streams:
            for packet in (packet for frame in (*frames, None) for packet in stream.encode(frame)):
                output.mux(packet)
    return buffer.getvalue()


def _pdf() -> bytes:
    buffer = io.BytesIO()
    with pypdfium2.PdfDocument.new() as document:
        image = pypdfium2.PdfImage.new(document)
        image.set_bitmap(pypdfium2.PdfBitmap.from_pil(Image.fromarray(_pixels())))
        image.set_matrix(pypdfium2.PdfMatrix().scale(WIDTH, HEIGHT))
        page = document.new_page(WIDTH, HEIGHT)
        page.insert_obj(image)
        page.gen_content()
        document.save(buffer)
    return buffer.getvalue()


def _svg() -> bytes:
    return b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='48'><rect width='64' height='48'/></svg>"
