"""Damaged, lying and oversized audio."""

from __future__ import annotations

import io
import re
import struct
from random import Random

import numpy as np
import soundfile

from benchmarks.fuzz.damage import Case, damaged

SUBTYPES = {
    "WAV": (
        "PCM_U8",
        "PCM_16",
        "PCM_24",
        "PCM_32",
        "FLOAT",
        "DOUBLE",
        "ULAW",
        "ALAW",
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
        "G721_32",
        "NMS_ADPCM_16",
    ),
    "WAVEX": ("PCM_16", "FLOAT"),
    "RF64": ("PCM_16", "DOUBLE"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
}
RATES = (1, 7, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 192_001, 2**31 - 1)


def hostile_audio(rng: Random) -> Case:
    """Return one piece of audio, mostly damaged."""
    if rng.random() < 0.002:
        return rng.choice((_silence, _repeated))(rng)
    name, data = _bare_wav(rng) if rng.random() < 0.3 else _audio(rng)
    return damaged(name, data, rng, (_declare_length, _add_id3), lambda: _audio(rng)[1], _seal_ogg)


def _audio(rng: Random) -> Case:
    form = rng.choice(list(SUBTYPES))
    subtype, rate = rng.choice(SUBTYPES[form]), rng.choice(RATES if rng.random() < 0.3 else (8_000, 44_100, 48_000))
    if form == "OGG":
        rate = min(rate, 192_001)  # libsndfile 1.2.2 crashes when it writes more
    channels = rng.choice((1, 1, 1, 2, 2, 2, 3, 6, 8, 9, 64))
    shape = (rng.choice((0, 1, 2, 100, 5_000, 30_000)), channels)
    values = np.random.default_rng(rng.getrandbits(64)).uniform(-1.2, 1.2, shape)
    if subtype in ("FLOAT", "DOUBLE") and values.size and rng.random() < 0.5:
        values.flat[:: rng.choice((1, 3))] = rng.choice((np.nan, np.inf, -np.inf, 1e300, 1e-310))
    endian = rng.choice(("FILE", "BIG")) if form == "WAV" else "FILE"
    for shown, hertz, order in ((values, rate, endian), (values[:, :1], 16_000, "FILE")):
        file = io.BytesIO()
        try:
            soundfile.write(file, shown, hertz, format=form, subtype=subtype, endian=order)
            break
        except (soundfile.LibsndfileError, ValueError, TypeError):  # there is no such combination
            continue
    return f"{form} {subtype} {hertz} Hz {shown.shape[1]} ch", file.getvalue()


def _bare_wav(rng: Random) -> Case:
    """A WAV written by hand, so that its header may say anything."""
    tag, bits = rng.choice(
        ((1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64), (6, 8), (7, 8), (17, 4), (2, 4), (49, 0))
    )
    if rng.random() < 0.2:
        tag, bits = rng.randrange(65_536), rng.choice((0, 1, 7, 12, 33, 65_535))
    channels = rng.choice((1, 1, 1, 2, 2, 8, 0, 9, 1_024, 65_535))
    rate = rng.choice((8_000, 44_100, 48_000, 0, *RATES, 2**32 - 1))
    payload = rng.randbytes(rng.choice((0, 1, 3, 1_000, 40_000)))
    align = rng.choice((channels * bits // 8, 0, 1, 65_535)) & 0xFFFF
    header = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    chunks = b"fmt " + struct.pack("<I", 16) + header
    chunks += b"LIST" + struct.pack("<I", 9) + b"INFOISFT\0\0" if rng.random() < 0.2 else b""
    chunks += b"data" + struct.pack("<I", rng.choice((len(payload), 0, 0xFFFFFFFF, 0x7FFFFFFF))) + payload
    size = rng.choice((len(chunks) + 4, 0, 0xFFFFFFFF))
    return f"bare WAV tag {tag} {bits} bit", b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunks


def _declare_length(data: bytes, rng: Random) -> bytes:
    """Set the lengths in the header to nothing or to everything."""
    size = rng.choice((b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f" * 2, b"\x01\0\0\0" * 2))
    if data[:4] == b"fLaC":
        return data[:21] + bytes([data[21] & 0xF0 | size[0] & 0xF]) + size[:4] + data[26:]
    if data[:4] == b"OggS":
        at = data.rfind(b"OggS")
        return data[: at + 6] + size + data[at + 14 :]
    for name in (b"RIFF", b"data", b"fact", b"ds64"):
        at = data.find(name)
        if at >= 0 and rng.random() < 0.6:
            data = data[: at + 4] + size[:4] + data[at + 8 :]
    return data


def _add_id3(data: bytes, rng: Random) -> bytes:
    size = rng.choice((0, 100, 5_000))
    declared = rng.choice((size.to_bytes(4, "big"), b"\x7f\x7f\x7f\x7f", b"\xff\xff\xff\xff"))
    return b"ID3\x04\0\0" + declared + rng.randbytes(size) + data


def _seal_ogg(data: bytes) -> bytes:
    """Give every page of an Ogg its checksum."""
    if data[:4] != b"OggS":
        return data
    pages = []
    for page in re.split(b"(?=OggS)", data):
        checksum = 0
        for byte in page[:22] + bytes(4) + page[26:]:
            checksum = checksum << 8 & 0xFFFFFFFF ^ _OGG_TABLE[checksum >> 24 ^ byte]
        pages.append(page[:22] + struct.pack("<I", checksum) + page[26:])
    return b"".join(pages)


def _ogg_entry(value: int) -> int:
    value <<= 24
    for _ in range(8):
        value = value << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if value >> 31 else 0)
    return value


_OGG_TABLE = [_ogg_entry(value) for value in range(256)]


def _silence(rng: Random) -> Case:
    """As many samples as are allowed, or more, in a small file."""
    rate, channels = rng.choice(((48_000, 2), (96_000, 1), (12_000, 8), (8_000, 1)))
    seconds = rng.choice((599, 601))
    file = io.BytesIO()
    soundfile.write(file, np.zeros((seconds * rate, channels), np.int16), rate, format="FLAC")
    return f"FLAC of {seconds} s {rate} Hz {channels} ch", file.getvalue()


def _repeated(rng: Random) -> Case:
    """A short file whose content is repeated up to the limit on bytes, its lengths unknown."""
    while True:
        name, data = _audio(rng)
        if len(data) > 2_000:
            break
    times = rng.choice((20 * 2**20, 2**20)) // len(data)
    return f"{name} {times} times", _declare_length(data, rng) + data[len(data) // 2 :] * times
