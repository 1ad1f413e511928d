"""Reads one medium, checks it against the limits and decodes it."""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail._internal.pool import SLOW_WORK
from smoothguard_guardrail.errors import MediaError, MediaFetchError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import audio, dialects, image, pdf, video
from smoothguard_guardrail.media.containers import own_block, pdf_parts, video_parts
from smoothguard_guardrail.media.decoded_medium import DecodedMedium, audio_medium, image_medium
from smoothguard_guardrail.media.formats import AUDIO_FORMATS, CONTAINER_FORMATS, IMAGE_FORMATS, is_text, sniff
from smoothguard_guardrail.media.local_files import read_local
from smoothguard_guardrail.media.remote_urls import fetch_url
from smoothguard_guardrail.media.strings import (
    EXAMPLE_CHARS,
    decode_base64,
    decode_data_uri,
    decoded_size,
    find_spans,
    sniff_base64,
    split_data_uri,
)
from smoothguard_guardrail.result import Medium

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig, MediaLimits, RemotePolicy
    from smoothguard_guardrail.media.found_medium import Address, Found
    from smoothguard_guardrail.media.sizing import Sizing

_ADVICE = 'send bytes, or set on_unsupported="drop" (the model does not see it) or "pass" (it sees it unguarded)'
_NO_TEXT = re.compile(r"\b(image|audio|video)/|\bpdf\b|\boctet-stream\b", re.IGNORECASE)
"""Declarations by which readers may take a text for a medium."""
_DECODED = IMAGE_FORMATS.keys() | AUDIO_FORMATS.keys() | CONTAINER_FORMATS.keys() | {pdf.PDF}


class UnguardedError(Exception):
    """A medium that cannot be guarded: `on_unsupported` decides what happens to it."""

    def __init__(self, error: MediaError, found: Found, **facts: Any) -> None:
        self.error = error
        self.facts: dict[str, Any] = {"path": found.path, "kind": found.kind, "notes": (error.reason,)} | facts

    def with_advice(self) -> MediaError:
        """Return the error with what the user of a guard can do about it."""
        return type(self.error)(f"{self.error.reason}: {_ADVICE}", path=self.error.path)

    def record(self, policy: Literal["drop", "pass"]) -> Medium:
        """Return the record of a medium that was dropped or passed."""
        return Medium(action="dropped" if policy == "drop" else "passed", **self.facts)


def decode(
    found: Found, messages: Sequence[BaseMessage], config: MediaConfig, sizing: Sizing | None = None
) -> tuple[DecodedMedium, ...]:
    """Decode a medium, at the size that is wanted or at its own.

    Returns:
        The medium; the parts of one that holds several, such as the pages of a PDF or the frames of a video, in order;
        nothing if it turns out to be text.

    Raises:
        UnguardedError: The policy must decide.
        MediaError: It is over a limit or damaged.
    """
    try:
        return _decode(found, messages, config, sizing)
    except MediaLimitError as error:
        raise MediaLimitError(error.reason, path=found.path) from error.__cause__
    except (UnsupportedMediaError, MediaFetchError) as error:
        raise UnguardedError(error, found) from error
    except MediaError as error:
        if found.span is None:
            raise
        if len(found.value) < EXAMPLE_CHARS:
            return ()
        in_text = UnsupportedMediaError(error.reason, path=found.path)
        raise UnguardedError(in_text, found) from error


def may_take_long(found: Found, config: MediaConfig) -> bool:
    """Return whether decoding a medium may wait or take seconds: it is to be fetched, a PDF, a video, or unknown."""
    value = found.value
    if found.form in ("object", "unknown", "file_id"):
        return False
    if found.form in ("url", "path"):
        return True
    if found.form == "bytes":
        sniffed = sniff(value)
    else:
        text = value.decode("ascii") if found.form == "base64_bytes" else value
        uri = split_data_uri(text)
        sniffed = sniff_base64(text if uri is None else uri.payload)
    return sniffed is None or sniffed.mime_type not in _quickly_decoded(config)


def _quickly_decoded(config: MediaConfig) -> set[str]:
    moving = video.ANIMATED if config.video.animated_images else set()
    return (IMAGE_FORMATS.keys() | AUDIO_FORMATS.keys()) - CONTAINER_FORMATS.keys() - moving


def _decode(
    found: Found, messages: Sequence[BaseMessage], config: MediaConfig, sizing: Sizing | None
) -> tuple[DecodedMedium, ...]:
    limits = config.limits
    if found.form == "object":
        return (_decode_object(found, messages, limits, sizing),)
    data = _read(found, limits, config.remote)
    facts: dict[str, Any] = {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sniffed = sniff(data)
    if sniffed is None and found.kind == "file" and is_text(data) and not find_spans(data.decode()):
        if _is_declared_text(messages, found):
            return ()
        reason = "a file of text must be declared as text, since readers may take it for a PDF without a header"
        raise UnguardedError(UnsupportedMediaError(reason, path=found.path), found, **facts)
    if sniffed is not None:
        facts |= {"kind": sniffed.kind, "mime_type": sniffed.mime_type}
    if sniffed is None or sniffed.mime_type not in _DECODED:
        what = sniffed.mime_type if sniffed else "bytes of an unknown format"
        unsupported = UnsupportedMediaError(
            f"expected an image, audio, video or PDF of a known format, got {what}", path=found.path
        )
        raise UnguardedError(unsupported, found, **facts)
    try:
        with nullcontext() if sniffed.mime_type in _quickly_decoded(config) else SLOW_WORK:
            return _decode_known(data, found, messages, config, sizing, facts)
    except UnsupportedMediaError as error:
        raise UnguardedError(error, found, **facts) from error


def _decode_known(
    data: bytes,
    found: Found,
    messages: Sequence[BaseMessage],
    config: MediaConfig,
    sizing: Sizing | None,
    facts: dict[str, Any],
) -> tuple[DecodedMedium, ...]:
    """Decode bytes of a format that is decoded."""
    mime_type, limits, path = facts["mime_type"], config.limits, found.path
    hints = _size_hints(messages, found)
    wanted = None if sizing is None else lambda height, width: sizing.image_size(height, width, hints)
    wanted_rate = None if sizing is None else sizing.sampling_rate
    if mime_type == pdf.PDF:
        return pdf_parts(data, found, messages, config, wanted, hints, facts)
    if mime_type in CONTAINER_FORMATS:
        film = video.decode_video(
            data,
            mime_type=mime_type,
            config=config.video,
            limits=limits,
            path=path,
            wanted=wanted,
            wanted_rate=wanted_rate,
        )
        return video_parts(film, found, messages, config, hints, facts)
    if mime_type in AUDIO_FORMATS:
        heard = audio.decode_audio(
            data, mime_type=mime_type, max_seconds=limits.max_seconds, path=path, wanted=wanted_rate
        )
        return (audio_medium(found, heard, facts),)
    still = image.decode_image(data, mime_type=mime_type, limits=limits, path=path, wanted=wanted)
    if config.video.animated_images and mime_type in video.ANIMATED and own_block(messages, found) is not None:
        film = video.decode_animation(
            data, mime_type=mime_type, config=config.video, limits=limits, path=path, wanted=wanted
        )
        if len(film.frames) > 1:
            return video_parts(film, found, messages, config, hints, facts)
    return (image_medium(found, still, hints, facts),)


def _read(found: Found, limits: MediaLimits, remote: RemotePolicy) -> bytes:
    """Return the encoded bytes of a medium."""
    path, value = found.path, found.value
    if found.form == "unknown":
        raise UnsupportedMediaError(found.reason or "not understood", path=path)
    if found.form == "file_id":
        raise UnsupportedMediaError("expected bytes, got a file id that only the provider can open", path=path)
    if found.form == "url":
        return fetch_url(value, policy=remote, max_bytes=limits.max_bytes, path=path)
    if found.form == "path":
        return read_local(value, policy=remote, max_bytes=limits.max_bytes, path=path)
    size = len(value) if found.form == "bytes" else decoded_size(value)
    if size > limits.max_bytes + 1024:
        raise MediaLimitError(f"has about {size:,} bytes; at most {limits.max_bytes:,} are allowed", path=path)
    try:
        data = _bytes(found)
    except ValueError as error:
        raise MediaError(str(error), path=path) from error
    if len(data) > limits.max_bytes:
        raise MediaLimitError(f"has {len(data):,} bytes; at most {limits.max_bytes:,} are allowed", path=path)
    return data


def _bytes(found: Found) -> bytes:
    if found.form == "bytes":
        return bytes(found.value)
    if found.form == "base64_bytes":
        return decode_base64(found.value.decode("ascii"))
    if found.form == "base64":
        return decode_base64(found.value)
    uri = split_data_uri(found.value)
    if uri is None:
        raise ValueError("not a data URI")
    return decode_data_uri(uri)


def _decode_object(
    found: Found, messages: Sequence[BaseMessage], limits: MediaLimits, sizing: Sizing | None
) -> DecodedMedium:
    if found.kind == "audio":
        rate = _sibling(messages, found.leaf, "sampling_rate")
        heard = audio.decode_waveform(found.value, sampling_rate=rate, max_seconds=limits.max_seconds, path=found.path)
        return audio_medium(found, heard, {"kind": "audio"})
    hints = _size_hints(messages, found)
    wanted = None if sizing is None else lambda height, width: sizing.image_size(height, width, hints)
    decoded = image.decode_object(found.value, max_pixels=limits.max_pixels, path=found.path, wanted=wanted)
    return image_medium(found, decoded, hints, {"kind": "image"})


def _size_hints(messages: Sequence[BaseMessage], found: Found) -> dict[str, Any]:
    """Return what the dicts of a block, from the outermost to the one that holds the medium, say about its size."""
    hints: dict[str, Any] = {}
    if found.kind not in ("image", "video", "file") or found.span is not None:
        return hints
    for node in _dicts(messages, found):
        hints |= {key: node[key] for key in dialects.SIZE_HINTS & node.keys()}
    return hints


def _is_declared_text(messages: Sequence[BaseMessage], found: Found) -> bool:
    """Return whether a block says of which type its file is, or how it is called, and only as one says it of text."""
    uri = split_data_uri(found.value) if found.form == "data_uri" else None
    said = [uri.declared] if uri else []
    for node in _dicts(messages, found):
        said += [node[key] for key in dialects.MIME_KEYS & node.keys() if isinstance(node[key], str)]
        names = [node[key] for key in ("filename", "name") if isinstance(node.get(key), str)]
        said += [name.rpartition(".")[2] for name in names if "." in name]
    return any(said) and not any(map(_NO_TEXT.search, said))


def _dicts(messages: Sequence[BaseMessage], found: Found) -> Iterator[dict[str, Any]]:
    """Yield the dicts of a block, from the outermost to the one that holds the medium."""
    index, name, *keys = found.leaf
    node: Any = getattr(messages[index], name)
    for depth, step in enumerate(keys, start=2):
        if depth >= len(found.block) - 1 and isinstance(node, dict):
            yield node
        node = node[step]


def _sibling(messages: Sequence[BaseMessage], leaf: Address, key: str) -> Any:
    """Return the value of another key of the dict that holds a value."""
    index, name, *keys = leaf
    node: Any = getattr(messages[index], name)
    for step in keys[:-1]:
        node = node[step]
    return node.get(key) if isinstance(node, dict) else None
