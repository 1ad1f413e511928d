"""Reading payloads of providers: the media in them, and everything else."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.asking import pixels
from tests.media import corpus

MASK = "(medium)"
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{100,}={0,2}")


def mapped(payload: Any, function: Callable[[str], str]) -> Any:
    """Return a payload with every text in it replaced."""
    if isinstance(payload, dict):
        return {key: mapped(value, function) for key, value in payload.items()}
    if isinstance(payload, list):
        return [mapped(value, function) for value in payload]
    return function(payload) if isinstance(payload, str) else payload


def masked(payload: Any) -> Any:
    """Return a payload without its media."""
    return mapped(payload, lambda text: _BASE64.sub(MASK, text))


def media_in(payload: Any) -> Iterator[bytes]:
    """Yield the media of a payload, decoded from base64 of either alphabet, wherever they stand."""
    for text in _BASE64.findall("\n".join(_texts(payload))):
        yield base64.b64decode(standard(text) + "=" * (-len(text) % 4))


def _texts(payload: Any) -> Iterator[str]:
    if isinstance(payload, str):
        yield payload
    elif isinstance(payload, (dict, list)):
        for value in payload.values() if isinstance(payload, dict) else payload:
            yield from _texts(value)


def standard(text: str) -> str:
    """Return base64 in the standard alphabet."""
    return text.translate(str.maketrans("-_", "+/"))


def values(medium: bytes) -> NDArray[np.float64]:
    """Return a picture's pixels in [0, 1] or a recording's waveform in [-1, 1]."""
    if medium.startswith(b"RIFF"):
        waveform, rate = soundfile.read(io.BytesIO(medium))
        assert rate == corpus.SAMPLING_RATE
        return np.asarray(waveform, dtype=np.float64)
    return pixels(medium)


def goes_out_unperturbed(payload: Any) -> bool:
    """Return whether any encoding of the corpus's picture or recording stands anywhere in a payload."""
    text = corpus.flatten(mapped(payload, standard)).replace(b"\\n", b"").replace(b"\n", b"")
    return any(original.replace(b"\n", b"") in text for original in corpus.originals())
