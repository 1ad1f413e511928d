"""The formats of media: how their bytes begin, and which of them are decoded.

To add a format, let `sniff` recognise its first bytes and name its decoder in `IMAGE_FORMATS`, `AUDIO_FORMATS` or
`CONTAINER_FORMATS`. A declared media type is never trusted.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import NamedTuple

IMAGE_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/tiff": "TIFF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
}
"""Pillow's name of every image format that is decoded, by media type as sniffed; pillow-heif decodes HEIF."""
AUDIO_FORMATS = {
    "audio/wav": ("WAV", "WAVEX", "RF64"),
    "audio/flac": ("FLAC",),
    "audio/ogg": ("OGG",),
    "audio/mpeg": ("MP3",),
}
"""libsndfile's names of every audio format that is decoded, by media type as sniffed."""
CONTAINER_FORMATS = {
    "audio/aac": "aac",
    "audio/amr": "amr",
    "audio/mp4": "mov",
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-msvideo": "avi",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-asf": "asf",
    "video/ogg": "ogg",
}
"""FFmpeg's name of every container that PyAV opens, by media type as sniffed: whether there is video in it shows
only then."""

HEAD = 2048
"""`sniff` looks at this many bytes at most."""

MPEG_BITRATES = {  # kbit/s by (MPEG-1?, layer), Source: ISO/IEC 11172-3, 2.4.2.3, and 13818-3
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}


class Sniffed(NamedTuple):
    """The format of some bytes."""

    kind: str
    """`image`, `audio`, `video` or `pdf`."""
    mime_type: str


_PART = 3 * 2**18


class Encoded(NamedTuple):
    """An encoded medium, as the base64 that almost every dialect takes."""

    base64: str
    mime_type: str

    @classmethod
    def of(cls, data: bytes, mime_type: str) -> Encoded:
        """Return encoded bytes."""
        # Part by part: other threads wait while one part is encoded.
        parts = (b64encode(data[start : start + _PART]) for start in range(0, len(data), _PART))
        return cls(b"".join(parts).decode("ascii"), mime_type)

    @property
    def data(self) -> bytes:
        """The bytes."""
        return b64decode(self.base64)


_PREFIXES: tuple[tuple[bytes, Sniffed], ...] = (
    (b"\x89PNG\r\n\x1a\n", Sniffed("image", "image/png")),
    (b"GIF87a", Sniffed("image", "image/gif")),
    (b"GIF89a", Sniffed("image", "image/gif")),
    (b"II*\0", Sniffed("image", "image/tiff")),
    (b"MM\0*", Sniffed("image", "image/tiff")),
    (b"II+\0", Sniffed("image", "image/tiff")),
    (b"MM\0+", Sniffed("image", "image/tiff")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Sniffed("image", "image/jp2")),
    (b"\xff\x4f\xff\x51", Sniffed("image", "image/jp2")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Sniffed("image", "image/jxl")),
    (b"8BPS", Sniffed("image", "image/vnd.adobe.photoshop")),
    (b"fLaC", Sniffed("audio", "audio/flac")),
    (b"ID3", Sniffed("audio", "audio/mpeg")),
    (b"#!AMR", Sniffed("audio", "audio/amr")),
    (b"MThd", Sniffed("audio", "audio/midi")),
    (b"\x1aE\xdf\xa3", Sniffed("video", "video/webm")),
    (b"FLV\x01", Sniffed("video", "video/x-flv")),
    (b"\0\0\x01\xba", Sniffed("video", "video/mpeg")),
    (b"0&\xb2u\x8ef\xcf\x11", Sniffed("video", "video/x-ms-asf")),
    (b"%PDF-", Sniffed("pdf", "application/pdf")),
)
_RIFF = {
    b"WEBP": Sniffed("image", "image/webp"),
    b"WAVE": Sniffed("audio", "audio/wav"),
    b"AVI ": Sniffed("video", "video/x-msvideo"),
}
_BRANDS = {
    b"avif": Sniffed("image", "image/avif"),
    b"avis": Sniffed("image", "image/avif"),
    b"heic": Sniffed("image", "image/heic"),
    b"heix": Sniffed("image", "image/heic"),
    b"mif1": Sniffed("image", "image/heic"),
    b"miaf": Sniffed("image", "image/heic"),
    b"heim": Sniffed("image", "image/heic"),
    b"heis": Sniffed("image", "image/heic"),
    b"msf1": Sniffed("image", "image/heic-sequence"),
    b"hevc": Sniffed("image", "image/heic-sequence"),
    b"qt  ": Sniffed("video", "video/quicktime"),
    b"M4A ": Sniffed("audio", "audio/mp4"),
    b"M4B ": Sniffed("audio", "audio/mp4"),
}
_SVG = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_NO_TEXT = re.compile(r"[\x01-\x08\x0e-\x1f]|<svg[\s>]|%PDF-|\d\s+\d+\s+obj\b", re.IGNORECASE)
"""Control characters, and what shows that a text is an image or a PDF: many readers need no header."""


def short_name(mime_type: str) -> str:
    """Return the name of a format in dialects that don't write media types: `png`, `mp3`."""
    return "mp3" if mime_type == "audio/mpeg" else mime_type.partition("/")[2]


def sniff(data: bytes | bytearray | memoryview) -> Sniffed | None:
    """Return the format of a medium, or None if the bytes do not begin like one.

    Args:
        data: The bytes, or at least the first `HEAD` of them.

    Example:
        >>> sniff(b"GIF89a...")
        Sniffed(kind='image', mime_type='image/gif')
    """
    head = bytes(data[:HEAD])
    for prefix, found in _PREFIXES:
        if head.startswith(prefix):
            return found
    return _sniff_container(head) or _sniff_bare(head)


def _sniff_container(head: bytes) -> Sniffed | None:
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Sniffed("audio", "audio/aiff")
    if head[:4] == b"OggS":
        is_video = b"\x80theora" in head or b"OVP80" in head
        return Sniffed("video", "video/ogg") if is_video else Sniffed("audio", "audio/ogg")
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"mif1", b"miaf") and b"avif" in head[16 : int.from_bytes(head[:4], "big")]:
            brand = b"avif"
        return _BRANDS.get(brand, Sniffed("video", "video/mp4"))
    return None


def _sniff_bare(head: bytes) -> Sniffed | None:
    """Recognise formats with a short signature by checking more of their header."""
    if head[:3] == b"\xff\xd8\xff" and head[3:4] >= b"\xc0":
        return Sniffed("image", "image/jpeg")
    bitmap_headers = (12, 16, 40, 52, 56, 64, 108, 124)
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and int.from_bytes(head[14:18], "little") in bitmap_headers:
        return Sniffed("image", "image/bmp")
    for length_of, mime_type in ((_mpeg_length, "audio/mpeg"), (_aac_length, "audio/aac")):
        length = length_of(head)
        if length and length_of(head[length:]):  # eleven set bits prove little: a second frame must follow
            return Sniffed("audio", mime_type)
    if b"%PDF-" in head:
        return Sniffed("pdf", "application/pdf")
    if _SVG.search(head):
        return Sniffed("image", "image/svg+xml")
    return None


def _aac_length(header: bytes) -> int | None:
    """Return the length in bytes of the ADTS frame at the start, or None if there is none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    return (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5


def _mpeg_length(header: bytes) -> int | None:
    """Return the length in bytes of the MPEG audio frame at the start, or None if there is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    kilobits = MPEG_BITRATES[version == 3, layer][bitrate - 1]
    hertz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12_000 * kilobits // hertz + padding) * 4
    samples = 72_000 if layer == 3 and version != 3 else 144_000
    return samples * kilobits // hertz + padding


def is_text(data: bytes) -> bool:
    """Return whether the bytes are plain UTF-8 text, without control characters or a medium."""
    if sniff(data) is not None or b"\0" in data:
        return False
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return not _NO_TEXT.search(text)
