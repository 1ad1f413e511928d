"""Damaged, lying and oversized images."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from benchmarks.fuzz.damage import Case, damaged, flip

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("1", "L", "P", "RGBA"),
    "WEBP": ("RGB", "RGBA", "L"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
}
SIDES = (1, 2, 3, 7, 17, 33, 64, 127, 300, 641)
TIFF_COMPRESSIONS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "zstd", "lzma")


def hostile_image(rng: Random) -> Case:
    """Return one image, mostly damaged."""
    if rng.random() < 0.002:
        return rng.choice((_flat_image, _many_scans, _many_frames, _text_bomb))(rng)
    name, data = _image(rng)
    return damaged(name, data, rng, (_declare_size, _break_exif), lambda: _image(rng)[1], _seal_png)


def _image(rng: Random) -> Case:
    form = rng.choice(list(MODES))
    mode = rng.choice(MODES[form])
    size = (rng.choice(SIDES), rng.choice(SIDES)) if rng.random() < 0.98 else (rng.choice((1, 9)), 5_000)
    frames = [_pixels(mode, size, rng) for _ in range(rng.choice((1, 1, 1, 2, 5)) if form != "JPEG" else 1)]
    options: dict[str, Any] = {}
    if len(frames) > 1 and form != "BMP":
        options |= {"save_all": True, "append_images": frames[1:]}
    if form == "JPEG":
        options |= {"quality": rng.choice((1, 75, 100)), "progressive": rng.random() < 0.5}
    if form == "WEBP":
        options |= {"lossless": rng.random() < 0.5, "method": 0}
    if form == "TIFF":
        options |= {"compression": rng.choice(TIFF_COMPRESSIONS), "big_tiff": rng.random() < 0.1}
    if form == "PNG":
        options |= {"pnginfo": _chunks(rng)} | _transparency(mode, rng)
    if form != "BMP" and rng.random() < 0.3:
        options["exif"] = _exif(rng)
    if form in ("PNG", "JPEG", "WEBP", "TIFF") and rng.random() < 0.1:
        options["icc_profile"] = rng.randbytes(rng.choice((1, 128, 70_000)))
    return f"{form} {mode} {size[0]}x{size[1]}", _save(frames[0], form, options)


def _save(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, form, **options)
    except Exception:  # there is no such combination, or Pillow reads the broken EXIF
        file = io.BytesIO()
        image.convert("RGB").save(file, form)
    return file.getvalue()


def _pixels(mode: str, size: tuple[int, int], rng: Random) -> Image.Image:
    if rng.random() < 0.2:
        return Image.new(mode, size)
    seed = np.random.default_rng(rng.getrandbits(64))
    if mode in ("I", "F", "I;16"):
        kind = {"I": "<i4", "F": "<f4", "I;16": "<u2"}[mode]
        return Image.frombytes(mode, size, seed.bytes(size[0] * size[1] * int(kind[-1])))  # floats: NaN and inf too
    if mode == "P":
        image = Image.frombytes("P", size, seed.bytes(size[0] * size[1]))
        image.putpalette(seed.bytes(3 * rng.choice((1, 2, 256))))
        return image
    grey = Image.frombytes("RGBA", size, seed.bytes(size[0] * size[1] * 4))
    return grey if mode == "RGBA" else Image.frombytes(mode, size, _raw(mode, size, seed))


def _raw(mode: str, size: tuple[int, int], seed: np.random.Generator) -> bytes:
    if mode == "1":
        return seed.bytes((size[0] + 7) // 8 * size[1])
    return seed.bytes(size[0] * size[1] * len(Image.new(mode, (1, 1)).getbands()))


def _chunks(rng: Random) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if rng.random() < 0.2:
        info.add_text("Comment", "A" * rng.choice((1, 10_000, 2_000_000)), zip=rng.random() < 0.5)
    if rng.random() < 0.2:
        name = rng.choice((b"gAMA", b"cHRM", b"pHYs", b"tRNS", b"sRGB", b"iCCP", b"acTL", b"fcTL", b"eXIf", b"zTXt"))
        info.add(name, rng.randbytes(rng.choice((0, 1, 4, 8, 26, 300))))
    return info


def _transparency(mode: str, rng: Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {}
    colour = tuple(rng.randrange(256) for _ in range(3)) if mode == "RGB" else rng.randrange(256)
    return {"transparency": rng.randbytes(rng.choice((1, 256))) if mode == "P" else colour}


def _exif(rng: Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 3, 5, 6, 8, 9, 65_535))
    exif[0x010E] = "A" * rng.choice((1, 60_000))
    data = exif.tobytes()
    return flip(data, rng) if rng.random() < 0.5 else data


def _break_exif(data: bytes, rng: Random) -> bytes:
    """Overwrite the type, count or value of the orientation, in EXIF or TIFF."""
    for entry in (b"\x12\x01\x03\x00", b"\x01\x12\x00\x03"):
        at = data.find(entry)
        if at >= 0:
            return data[: at + 2] + rng.randbytes(10) + data[at + 12 :]
    return data


def _declare_size(data: bytes, rng: Random) -> bytes:
    """Declare a huge or empty size in the header, whatever the pixels."""
    width, height = rng.choices((0, 1, 5_000, 7_000, 10_000, 13_000, 30_000, 65_535), k=2)
    if data[:4] == b"\x89PNG":
        return data[:16] + struct.pack(">II", width, height) + data[24:]
    if data[:3] == b"GIF":
        return data[:6] + struct.pack("<HH", width, height) + data[10:]
    if data[:2] == b"BM":
        return data[:18] + struct.pack("<ii", width, rng.choice((1, -1)) * height) + data[26:]
    if data[12:16] == b"VP8X":
        return data[:24] + width.to_bytes(3, "little") + height.to_bytes(3, "little") + data[30:]
    if data[:2] == b"\xff\xd8":
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return data if at < 0 else data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    for tag, value in ((256, width), (257, height)):
        at = data.find(struct.pack("<H", tag), 8)
        data = data if at < 0 else data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]
    return data


def _seal_png(data: bytes) -> bytes:
    """Give every chunk of a PNG its checksum."""
    at, parts = 8, [data[:8]]
    while data[:4] == b"\x89PNG" and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        body = data[at + 4 : end]
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at = end + 4
    return b"".join(parts) if at > 8 else data


def _flat_image(rng: Random) -> Case:
    """A few kilobytes that hold as many pixels as are allowed, or more."""
    form = rng.choice(("PNG", "GIF", "WEBP", "TIFF", "JPEG"))
    mode = rng.choice([mode for mode in MODES[form] if mode != "LAB"])
    size = rng.choice(((7_000, 7_000), (49_000, 1_000), (5_000, 3_000), (10_000, 9_500), (15_000, 12_000)))
    if form == "WEBP":
        size = (7_000, 7_000)
    compression = {"compression": "tiff_adobe_deflate"} if form == "TIFF" else {}
    transparency = {"transparency": 0} if form == "PNG" and mode in ("1", "L", "P") else {}
    return f"flat {form} {mode} {size[0]}x{size[1]}", _save(Image.new(mode, size), form, compression | transparency)


def _many_scans(rng: Random) -> Case:
    """A progressive JPEG that sends the same empty scan again and again: each visits every block."""
    side, times = rng.choice(((7_000, 10_000), (7_000, 100), (1_000, 10_000)))
    data = _save(Image.new("L", (side, side)), "JPEG", {"progressive": True})
    at = data.rfind(b"\xff\xda")
    return f"JPEG {side}x{side} with {times} scans", data[:at] + data[at:-2] * times + data[-2:]


def _many_frames(rng: Random) -> Case:
    form, times = rng.choice(("GIF", "TIFF", "WEBP", "PNG")), rng.choice((200, 2_000))
    frames = [Image.new("L", (9, 9), index % 256) for index in range(times)]
    data = _save(frames[0], form, {"save_all": True, "append_images": frames[1:]})
    return f"{form} of {times} frames", data


def _text_bomb(rng: Random) -> Case:
    """A PNG whose text or profile unpacks to far more than the file."""
    info = PngImagePlugin.PngInfo()
    packed = zlib.compress(bytes(200 * 2**20), 9)
    name = rng.choice((b"zTXt", b"iCCP", b"iTXt"))
    head = b"key\0" + (b"\x01\0\0\0" if name == b"iTXt" else b"\0")
    for _ in range(rng.choice((1, 20))):
        info.add(name, head + packed)
    return f"PNG {name.decode()} bomb", _save(Image.new("RGB", (9, 9)), "PNG", {"pnginfo": info})
