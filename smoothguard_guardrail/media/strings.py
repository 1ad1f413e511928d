"""Media inside strings: base64, data URIs, and either of them in plain text."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from smoothguard_guardrail.media.formats import HEAD, Sniffed, sniff

_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_SPACE = re.compile(r"\s+")
_HEAD_CHARS = HEAD // 3 * 4
_MIN_CHARS = 32
"""Shortest run of base64 in plain text that is checked: 24 bytes, less than any image."""
EXAMPLE_CHARS = 512
"""Base64 in plain text that is shorter than this and does not decode is an example: it could hide nothing."""
_RUN = r"(?:[A-Za-z0-9+/_-]{60,80}(?:\r?\n|\\n))*[A-Za-z0-9+/_-]+={0,2}"
"""One line, or lines as MIME and PEM wrap them; the line after a longer one is text."""
_DATA_URI = re.compile(rf"data:[^,\s\"'<>()]{{0,200}},\s*(?P<payload>(?:%[0-9a-f]{{2}}|{_RUN})*)", re.IGNORECASE)
_BARE = re.compile(rf"(?<![A-Za-z0-9+/_-])(?=[A-Za-z0-9+/_-]{{{_MIN_CHARS}}}){_RUN}")
_MEDIA_TYPE = re.compile(r"(image(?!/svg)|audio|video)/|application/(pdf|ogg)")


_SVG = "image/svg+xml"


class DataURI(NamedTuple):
    """The parts of a data URI."""

    declared: str
    """The declared media type in lower case; empty if there is none."""
    payload: str
    base64: bool


class Span(NamedTuple):
    """A medium in plain text."""

    start: int
    stop: int
    is_uri: bool
    """Whether it is a data URI rather than bare base64."""
    sniffed: Sniffed | None
    """None if the declared medium does not show in the bytes."""


def decoded_size(text: str) -> int:
    """Return an upper bound on the bytes that base64 text decodes to, without decoding it."""
    return len(text) * 3 // 4


def decode_base64(text: str) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding and white space.

    Raises:
        ValueError: It is not base64. Characters outside the alphabet are not skipped: other decoders might skip
            others.
    """
    stripped = _SPACE.sub("", text.replace("\\n", "\n")).rstrip("=")
    stripped = stripped.translate({ord("-"): "+", ord("_"): "/"})
    if not _BASE64.fullmatch(stripped) or len(stripped) % 4 == 1:
        raise ValueError("not valid base64")
    return binascii.a2b_base64(stripped + "=" * (-len(stripped) % 4))


def split_data_uri(text: str) -> DataURI | None:
    """Return the parts of a data URI, in upper or lower case; None if the text is not one."""
    stripped = text.strip()
    if stripped[:5].lower() != "data:":
        return None
    header, comma, payload = stripped[5:].partition(",")
    if not comma:
        return DataURI("", "", False)
    declared, *parameters = (part.strip().lower() for part in header.split(";"))
    return DataURI(declared, payload, "base64" in parameters)


def decode_data_uri(uri: DataURI) -> bytes:
    """Decode the payload of a data URI.

    Raises:
        ValueError: The payload does not match the header.
    """
    raw = unquote_to_bytes(uri.payload)
    return decode_base64(raw.decode("ascii")) if uri.base64 else raw


def sniff_base64(text: str) -> Sniffed | None:
    """Return the format of a medium in base64, from its start; None if it is not base64 or not a known medium."""
    head = _SPACE.sub("", text[: 2 * _HEAD_CHARS].replace("\\n", "\n"))[:_HEAD_CHARS].rstrip("=")
    head = head[: len(head) // 4 * 4] if len(head) % 4 == 1 or len(head) == _HEAD_CHARS else head
    try:
        return sniff(decode_base64(head))
    except ValueError:
        return None


def find_spans(text: str) -> list[Span]:
    """Return the media in plain text, in order and not overlapping.

    A data URI counts if its bytes are a known medium, or if it declares one and is long enough to be one. Bare base64
    counts only if its bytes are a known medium. SVG stays text: style sheets are full of it, and no model draws it.
    """
    if len(text) < _MIN_CHARS:
        return []
    spans = [span for match in _DATA_URI.finditer(text) if (span := _uri_span(match)) is not None]
    uris = iter(spans)
    uri = next(uris, None)
    bare = []
    for match in _BARE.finditer(text):
        while uri is not None and uri.stop <= match.start():
            uri = next(uris, None)
        if uri is not None and uri.start < match.end():
            continue
        sniffed = sniff_base64(match.group())
        if sniffed is not None and sniffed.mime_type != _SVG:
            bare.append(Span(match.start(), match.end(), False, sniffed))
    return sorted(spans + bare)


def _uri_span(match: re.Match[str]) -> Span | None:
    uri = split_data_uri(match.group())
    if uri is None:
        return None
    if uri.base64:
        sniffed = sniff_base64(uri.payload.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="))
    else:
        sniffed = sniff(unquote_to_bytes(uri.payload[: 3 * HEAD]))
    if sniffed is not None and sniffed.mime_type == _SVG:
        return None
    declares = _MEDIA_TYPE.match(uri.declared) is not None and len(uri.payload) >= EXAMPLE_CHARS
    if declares or (sniffed is not None and len(uri.payload) >= _MIN_CHARS):
        return Span(match.start(), match.end(), True, sniffed)
    return None
