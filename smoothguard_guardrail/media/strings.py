"""Media inside strings: base64, data URIs, and what hides either of them in plain text.

A model, or the tool that it calls, may undo what an attacker wraps around an image. So plain text is searched as it
stands, with the escapes of JSON, C, URLs and HTML undone, and without the breaks between lines.
"""

from __future__ import annotations

import binascii
import re
import zlib
from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np

from smoothguard_guardrail.media.formats import HEAD, Sniffed, sniff

_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
_SPACE = re.compile(r"\s+")
_HEAD_CHARS = HEAD // 3 * 4
_MIN_CHARS = 32
"""Shortest base64 in plain text that is checked: 24 bytes, less than any image."""
EXAMPLE_CHARS = 512
"""Base64 in plain text that is shorter than this and does not decode is an example: it could hide nothing."""
_ROUNDS = 3
_SVG = "image/svg+xml"
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_GAPS = b" \t\r\n\v\f>|"
"""What breaks base64 into lines: white space and the marks of quoted mail."""
_IS_GAP = np.zeros(256, bool)
_IS_GAP[list(_GAPS)] = True
_INVISIBLE = re.compile("[\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]")
_NAMES = {b"plus": b"+", b"sol": b"/", b"equals": b"=", b"amp": b"&", b"percnt": b"%", b"bsol": b"\\", b"colon": b":"}
_NAMES |= {b"comma": b",", b"semi": b";", b"lowbar": b"_", b"quot": b'"', b"newline": b"\n", b"nbsp": b" "}
_ESCAPE = re.compile(
    # A run of backslashes is read once, from its start: its length must not be squared.
    rb"(?<!\\)\\++(?:u00(?P<u>[0-9a-f]{2})|x(?P<x>[0-9a-f]{2})|(?P<octal>[0-3][0-7]{2})|(?P<letter>[nrt/]|\r?\n))"
    rb"|%(?P<percent>[0-9a-f]{2})|&\#(?P<number>\d{1,7});?|&\#x(?P<hex>[0-9a-f]{1,6});?|&(?P<name>[a-z]{3,7});",
    re.IGNORECASE,
)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"/": b"/"}
_STARTS = (
    *(b"iVBORw0KGgo", b"R0lGOD", b"/9j/", b"UklGR", b"SUkq", b"TU0A", b"T2dnU", b"ZkxhQ", b"SUQz", b"JVBERi", b"Qk"),
    *(
        b"GkXfo",
        b"RkxWA",
        b"OEJQU",
        b"AAAA",
        b"Rk9STQ",
        b"UkY2N",
        b"UklGW",
        b"//",
        b"IyFBTV",
        b"TVRoZ",
        b"MCaydY",
        b"/08",
    ),
    *(b"/08", b"eJ", b"eN", b"eA", b"eF", b"H4sI", b"Z0eX"),
)
"""How formats of media, and gzip and zlib, begin in base64."""
_COMPRESSED = (b"H4sI", b"eJ", b"eN", b"eA", b"eF")
_MAX_FAKES = 8_192
"""After as many starts of media that are none, the rest of the text is one unknown medium; trying to decompress takes
longest, and counts 16 times."""
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_HEX_STARTS = (b"89504e47", b"ffd8ff", b"47494638", b"52494646", b"664c6143", b"4f676753", b"25504446", b"49492a00")
_HEX_GAPS = b" \t\r\n,:;\\>|x-"
_RAW_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"fLaC", b"OggS")
_CHUNK = re.compile(rb"[A-Za-z0-9+/_-]+")
_HEAD = re.compile(rb"[A-Za-z0-9+/]{20}")
_WORD = re.compile(rb"[A-Z]?[a-z]{1,20}|[A-Z]{1,6}|[0-9]{1,6}")
_DIGITS = re.compile(rb"[0-9a-fA-F\\][0-9a-fA-F \t\r\n,:;\\>|x-]{63,}")
_URI_HEAD = re.compile(rb"data:[^,\s\"'<>()]{0,200},[\s]{0,8}\Z", re.IGNORECASE)
_DECLARES = re.compile(rb"data:(image/(?!svg)|audio/|video/|application/(pdf|ogg))[^,\s\"'<>()]{0,200},", re.IGNORECASE)


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
    value: str
    """The medium without what hides it; not base64 where it cannot be written back in its form, such as hex."""


def decoded_size(text: str) -> int:
    """Return an upper bound on the bytes that base64 text decodes to, without decoding it."""
    return len(text) * 3 // 4


def decode_base64(text: str) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding and white space.

    Raises:
        ValueError: It is not base64. Characters outside the alphabet are not skipped: other decoders might skip
            others.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # the usual form, in one pass
    except ValueError:
        data = _SPACE.sub("", text.replace("\\n", "\n")).encode("utf-8", "replace").rstrip(b"=").translate(_URLSAFE)
    if not _BASE64.fullmatch(data) or len(data) % 4 == 1:
        raise ValueError("not valid base64")
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


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
    if uri.base64 and "%" not in uri.payload:
        return decode_base64(uri.payload)
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

    A data URI counts if its bytes are a known medium, or if it declares one and is long enough to be one. Bare base64,
    hex, byte literals and compressed bytes count only if a known medium begins in them. SVG stays text: style sheets
    are full of it, and no model draws it. So does a medium without its first bytes, which no decoder opens.
    """
    if len(text) < _MIN_CHARS:
        return []
    spans: list[Span] = []
    for layer in _layers(text):
        spans += [*_base64_spans(layer), *_hex_spans(layer), *_raw_spans(layer, text)]
    spans.sort(key=lambda span: (span.start, -span.stop))
    separate: list[Span] = []
    for span in spans:
        if not separate or span.start >= separate[-1].stop:
            separate.append(span)
    return separate


class _Layer:
    """A text, one byte per character, with some of its escapes undone."""

    def __init__(self, data: bytes, length: int, marks: tuple[tuple[list[int], list[int]], ...] = ()) -> None:
        self.data = data
        self._length = length
        self._marks = marks
        """For each round of undoing, where the data shifts, and by how much from there on."""

    def origin(self, index: int) -> int:
        """Return where in the text the character at an index began; its length for the end."""
        if index >= len(self.data):
            return self._length
        for places, shifts in reversed(self._marks):
            at = bisect_right(places, index) - 1
            index += shifts[at] if at >= 0 else 0
        return index

    def undone(self) -> _Layer | None:
        """Return the layer with one more round of escapes undone; None if there are none."""
        places: list[int] = []
        shifts: list[int] = []
        removed = 0

        def undo(match: re.Match[bytes]) -> bytes:
            nonlocal removed
            character = _unescaped(match)
            if character is None:
                return match.group()
            places.append(match.start() - removed + 1)
            removed += len(match.group()) - 1
            shifts.append(removed)
            return character

        data = _ESCAPE.sub(undo, self.data)
        return _Layer(data, self._length, (*self._marks, (places, shifts))) if places else None


def _layers(text: str) -> list[_Layer]:
    visible = text if text.isascii() else _INVISIBLE.sub(" ", text)
    layers = [_Layer(visible.encode("latin-1", "replace"), len(text))]
    while len(layers) <= _ROUNDS and any(lead in layers[-1].data for lead in (b"\\", b"%", b"&")):
        undone = layers[-1].undone()
        if undone is None:
            break
        layers.append(undone)
    return layers


def _unescaped(match: re.Match[bytes]) -> bytes | None:
    """Return the character that an escape stands for, of one byte; None if it is no escape."""
    kind = match.lastgroup or ""
    value: bytes = match.group(kind)
    if kind == "letter":
        return _LETTERS.get(value, b"\n")
    if kind == "name":
        return _NAMES.get(value.lower())
    code = int(value, {"octal": 8, "number": 10}.get(kind, 16))
    return bytes([code]) if code < 256 else None


def _base64_spans(layer: _Layer) -> list[Span]:
    """Return the media in base64, bare or as data URIs, broken into lines or not."""
    data = layer.data
    plain = data.translate(_URLSAFE)
    squeezed = plain.translate(None, _GAPS)
    starts = sorted({at for start in _STARTS for at in _find_all(squeezed, start)} | set(_uri_payloads(squeezed)))
    if not starts:
        return []
    origins = np.flatnonzero(~_IS_GAP[np.frombuffer(plain, np.uint8)]) if len(squeezed) != len(plain) else None
    spans: list[Span] = []
    stop = num_fakes = 0
    for start in starts:
        at = start if origins is None else int(origins[start])
        if at < stop or (at and data[at - 1] in _ALPHABET):
            continue
        if num_fakes > _MAX_FAKES:
            return [*spans, Span(layer.origin(at), layer.origin(len(data)), False, None, "")]
        is_after_comma = data[max(0, at - 8) : at].rstrip().endswith(b",")
        uri = _URI_HEAD.search(data[max(0, at - 224) : at]) if is_after_comma else None
        sniffed = _sniff_head(squeezed[start : start + _HEAD_CHARS]) if _HEAD.match(squeezed, start) else None
        declares = uri is not None and _DECLARES.match(uri.group()) is not None
        num_fakes += 16 if sniffed is None and squeezed.startswith(_COMPRESSED, start) else 1
        if (sniffed is None and not declares) or (sniffed is not None and sniffed.mime_type == _SVG):
            continue
        end = _base64_stop(data, at) if sniffed else _PAYLOAD.match(data, at).end()  # type: ignore[union-attr]
        if end - at < (_MIN_CHARS if sniffed else EXAMPLE_CHARS):
            continue
        head = uri.group() if uri is not None and b"base64" in uri.group().lower() else b""
        value = (head + plain[at:end].translate(None, _GAPS)).decode("latin-1")
        spans.append(Span(layer.origin(at - len(head)), layer.origin(end), bool(head), sniffed, value))
        stop = end
    return spans


def _find_all(data: bytes, needle: bytes) -> list[int]:
    found, at = [], data.find(needle)
    while at >= 0:
        if at == 0 or needle not in (b"AAAA", b"//") or data[at - 1] != needle[0]:
            found.append(at)
        at = data.find(needle, at + 1)
    return found


def _uri_payloads(squeezed: bytes) -> list[int]:
    lower = squeezed.lower()
    found, at = [], lower.find(b"data:")
    while at >= 0:
        if (match := _DECLARES.match(squeezed, at)) and match.end() < len(squeezed):
            found.append(match.end())
        at = lower.find(b"data:", at + 5)
    return found


def _sniff_head(head: bytes) -> Sniffed | None:
    """Return the format of what base64 begins with, compressed or not."""
    run = _BASE64.match(head).group()  # type: ignore[union-attr]
    if len(run) < 20:
        return None
    data = binascii.a2b_base64(run[: len(run) // 4 * 4])
    if data[:3] == b"\x1f\x8b\x08" or (data[:1] == b"x" and int.from_bytes(data[:2], "big") % 31 == 0):
        try:
            return sniff(zlib.decompressobj(47).decompress(data, HEAD))
        except zlib.error:
            return None
    return sniff(data)


def _base64_stop(data: bytes, start: int) -> int:
    """Return where base64 ends: after lines of one width and a shorter last one, if that is not a word of prose."""
    chunk = _CHUNK.match(data, start)
    if chunk is None:
        return start
    width = chunk.end() - start
    lines = _lines(min(width, 9_999)).match(data, chunk.end())
    stop = lines.end() if lines else chunk.end()
    last = _LAST.match(data, stop)
    if last and data[stop - 1 : stop] != b"=" and len(last["chunk"]) < width:
        padded = data[last.end() : last.end() + 1] == b"="
        if padded or not _WORD.fullmatch(last["chunk"]):
            stop = last.end()
    while data[stop : stop + 1] == b"=":
        stop += 1
    return stop


_PAYLOAD = re.compile(rb"[A-Za-z0-9+/_=%-]*")
_LITERAL = re.compile(r"(?:\\.|[^\"'\\])*")
_LAST = re.compile(rb"[ \t\r\n\v\f>|]{1,200}(?P<chunk>[A-Za-z0-9+/_-]+)")


@lru_cache(maxsize=256)
def _lines(width: int) -> re.Pattern[bytes]:
    return re.compile(rb"(?:[ \t\r\n\v\f>|]{1,200}[A-Za-z0-9+/_-]{%d}(?![A-Za-z0-9+/_-]))*" % width)


def _hex_spans(layer: _Layer) -> list[Span]:
    """Return the media in hexadecimal digits, with or without marks between the bytes."""
    squeezed = layer.data.lower().translate(None, _HEX_GAPS)
    if b"\\0x" in layer.data or b"0x" in layer.data:
        squeezed = layer.data.lower().replace(b"0x", b"").translate(None, _HEX_GAPS)
    spans: list[Span] = []
    if not any(start in squeezed for start in _HEX_STARTS):
        return spans
    for match in _DIGITS.finditer(layer.data):
        digits = match.group().lower().replace(b"0x", b"").translate(None, _HEX_GAPS)
        first = min((at for each in _HEX_STARTS if (at := digits.find(each)) >= 0), default=len(digits))
        digits = digits[first : first + 2 * HEAD]
        if len(digits) < 2 * _MIN_CHARS:
            continue
        sniffed = sniff(binascii.unhexlify(digits[: len(digits) // 2 * 2]))
        if sniffed is not None:
            start, stop = (layer.origin(place) for place in match.span())
            spans.append(Span(start, stop, False, sniffed, match.group().decode("latin-1")))
    return spans


def _raw_spans(layer: _Layer, text: str) -> list[Span]:
    """Return the media as strings of one character per byte, such as byte literals."""
    spans: list[Span] = []
    if layer.data.isascii():
        return spans
    stop = 0
    for start in sorted({at for each in _RAW_STARTS for at in _find_all(layer.data, each)}):
        origin = layer.origin(start)
        unprintable = sum(byte > 126 or byte < 9 for byte in layer.data[start : start + 64])
        if origin < stop or unprintable < 4 or (sniffed := sniff(layer.data[start : start + HEAD])) is None:
            continue
        literal = _LITERAL.match(text, origin)
        end = literal.end() if literal and len(layer.data) != len(text) else len(text)
        if end - origin >= 2 * _MIN_CHARS:
            spans.append(Span(origin, end, False, sniffed, "raw bytes"))
            stop = end
    return spans
