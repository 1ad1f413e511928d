"""Reads the payloads of providers: the media in them, and everything else."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.helpers import pixels
from tests.media import corpus

MASK = "(medium)"
_JPEG = re.compile(r"\bjpeg\b")  # as noisy copies are sent
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{100,}={0,2}")


def replace_strings(payload: Any, function: Callable[[str], str]) -> Any:
    """Return a copy of a payload with every string replaced by `function(string)`."""
    if isinstance(payload, dict):
        return {key: replace_strings(value, function) for key, value in payload.items()}
    if isinstance(payload, list):
        return [replace_strings(value, function) for value in payload]
    return function(payload) if isinstance(payload, str) else payload


def without_media(payload: Any) -> Any:
    """Return a copy of a payload with every medium replaced by `MASK`, and every declared format by that of PNG."""

    def masked(text: str) -> str:
        return _JPEG.sub("png", _BASE64.sub(MASK, text))

    return replace_strings(_without_names(payload), masked)


def _without_names(payload: Any) -> Any:
    """Return a copy of a payload without what names a medium beside its bytes."""
    if isinstance(payload, dict):
        names = ("cache_control", "file_id", "uuid", *(["id"] if "image_url" in payload else []))
        return {key: _without_names(value) for key, value in payload.items() if key not in names}
    return [_without_names(value) for value in payload] if isinstance(payload, list) else payload


def media_in(payload: Any) -> Iterator[bytes]:
    """Yield every medium in a payload, decoded from base64 in either alphabet."""
    for text in _BASE64.findall("\n".join(_texts(payload))):
        yield base64.b64decode(standard_alphabet(text) + "=" * (-len(text) % 4))


def _texts(payload: Any) -> Iterator[str]:
    if isinstance(payload, str):
        yield payload
    elif isinstance(payload, (dict, list)):
        for value in payload.values() if isinstance(payload, dict) else payload:
            yield from _texts(value)


def standard_alphabet(text: str) -> str:
    """Return base64 text in the standard_alphabet alphabet."""
    return text.translate(str.maketrans("-_", "+/"))


def values(medium: bytes) -> NDArray[np.float64]:
    """Return an image's pixels in [0, 1], or the waveform of audio in [-1, 1]."""
    if medium.startswith(b"RIFF"):
        waveform, rate = soundfile.read(io.BytesIO(medium))
        assert rate == corpus.SAMPLING_RATE
        return np.asarray(waveform, dtype=np.float64)
    return pixels(medium)


def contains_original(payload: Any) -> bool:
    """Return whether a payload contains the corpus's image or audio in any encoding."""
    text = corpus.flatten(replace_strings(payload, standard_alphabet)).replace(b"\\n", b"").replace(b"\n", b"")
    return any(original.replace(b"\n", b"") in text for original in corpus.originals())
