"""Reads one medium, checks it against the limits and decodes it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail.errors import MediaError, MediaFetchError, MediaLimitError, UnsupportedMediaError
from smoothguard_guardrail.media import audio, dialects, image, pdf, video
from smoothguard_guardrail.media.audio import DecodedAudio
from smoothguard_guardrail.media.decoded_medium import Container, DecodedMedium
from smoothguard_guardrail.media.formats import AUDIO_FORMATS, CONTAINER_FORMATS, IMAGE_FORMATS, is_text, sniff
from smoothguard_guardrail.media.image import DecodedImage
from smoothguard_guardrail.media.local_files import read_local
from smoothguard_guardrail.media.remote_urls import fetch_url
from smoothguard_guardrail.media.strings import (
    EXAMPLE_CHARS,
    decode_base64,
    decode_data_uri,
    decoded_size,
    find_spans,
    split_data_uri,
)
from smoothguard_guardrail.media.video_file import VideoFile
from smoothguard_guardrail.result import Medium

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig, MediaLimits, RemotePolicy
    from smoothguard_guardrail.media.found_medium import Address, Found
    from smoothguard_guardrail.media.sizing import Sizing

_ADVICE = 'send bytes, or set on_unsupported="drop" (the model does not see it) or "pass" (it sees it unguarded)'
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


def _decode(
    found: Found, messages: Sequence[BaseMessage], config: MediaConfig, sizing: Sizing | None
) -> tuple[DecodedMedium, ...]:
    hints = _size_hints(messages, found)
    wanted = None if sizing is None else lambda height, width: sizing.image_size(height, width, hints)
    limits = config.limits
    if found.form == "object":
        return (_decode_object(found, messages, limits, hints, wanted),)
    data = _read(found, limits, config.remote)
    facts: dict[str, Any] = {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sniffed = sniff(data)
    if sniffed is None and found.kind == "file" and is_text(data) and not find_spans(data.decode()):
        return ()
    if sniffed is not None:
        facts |= {"kind": sniffed.kind, "mime_type": sniffed.mime_type}
    if sniffed is None or sniffed.mime_type not in _DECODED:
        what = sniffed.mime_type if sniffed else "bytes of an unknown format"
        unsupported = UnsupportedMediaError(
            f"expected an image, audio, video or PDF of a known format, got {what}", path=found.path
        )
        raise UnguardedError(unsupported, found, **facts)
    try:
        if sniffed.mime_type == pdf.PDF:
            return _decode_pdf(found, data, messages, config, wanted, hints, facts)
        return _decode_sniffed(found, data, messages, config, sizing, hints, facts)
    except UnsupportedMediaError as error:
        raise UnguardedError(error, found, **facts) from error


def _decode_sniffed(
    found: Found,
    data: bytes,
    messages: Sequence[BaseMessage],
    config: MediaConfig,
    sizing: Sizing | None,
    hints: dict[str, Any],
    facts: dict[str, Any],
) -> tuple[DecodedMedium, ...]:
    mime_type, limits, path = facts["mime_type"], config.limits, found.path
    wanted = None if sizing is None else lambda height, width: sizing.image_size(height, width, hints)
    wanted_rate = None if sizing is None else sizing.sampling_rate
    if mime_type in AUDIO_FORMATS:
        heard = audio.decode_audio(
            data, mime_type=mime_type, max_seconds=limits.max_seconds, path=path, wanted=wanted_rate
        )
        return (_audio(found, heard, facts),)
    if mime_type in CONTAINER_FORMATS:
        decoded = video.decode_video(
            data,
            mime_type=mime_type,
            config=config.video,
            limits=limits,
            path=path,
            wanted=wanted,
            wanted_rate=wanted_rate,
        )
        as_blocks = config.video.send_as == "frames" and _is_own_block(messages, found)
        return _video(found, decoded, hints, facts, as_blocks=as_blocks)
    still = image.decode_image(data, mime_type=mime_type, limits=limits, path=path, wanted=wanted)
    if config.video.animated_images and mime_type in video.ANIMATED and _is_own_block(messages, found):
        moving = video.decode_animation(
            data, mime_type=mime_type, config=config.video, limits=limits, path=path, wanted=wanted
        )
        if moving is not None:
            return _video(found, moving, hints, facts, as_blocks=True)
    return (_image(found, still, hints, facts),)


def _video(
    found: Found, decoded: video.DecodedVideo, hints: dict[str, Any], facts: dict[str, Any], *, as_blocks: bool
) -> tuple[DecodedMedium, ...]:
    """Return the frames of a video and its sound, or only sound if it holds nothing else."""
    heard, number = decoded.sound, len(decoded.frames)
    if not number and heard is not None:
        facts |= {"kind": "audio", "mime_type": facts["mime_type"].replace("video/", "audio/")}
        return (_audio(found, heard, facts | {"notes": decoded.notes}),)
    if not as_blocks and len({frame.image.pixels.shape for frame in decoded.frames}) > 1:
        raise UnsupportedMediaError("its frames have different sizes, which a new video cannot hold", path=found.path)
    file = VideoFile(
        seconds=tuple(frame.seconds for frame in decoded.frames), sampling_rate=heard and heard.sampling_rate
    )
    container = Container(as_blocks=as_blocks, write=file.write, kept_noise=file.kept_noise)
    parts = []
    for index, (frame, seconds) in enumerate(decoded.frames):
        noted = frame._replace(notes=(f"at {seconds:g} s", *frame.notes, *(decoded.notes if index == 0 else ())))
        part = _image(found, noted, hints, facts | {"kind": "image"}, part=f".frames[{index}]")
        caption = f"Frame {index + 1} of {number}, at {seconds:.2f} s:" if number > 1 else ""
        parts.append(replace(part, container=container, caption=caption))
    if heard is not None:
        parts.append(replace(_audio(found, heard, facts | {"kind": "audio"}, part=".sound"), container=container))
    return tuple(parts)


def _decode_pdf(
    found: Found,
    data: bytes,
    messages: Sequence[BaseMessage],
    config: MediaConfig,
    wanted: image.SizeRule | None,
    hints: dict[str, Any],
    facts: dict[str, Any],
) -> tuple[DecodedMedium, ...]:
    pages = pdf.render_pages(data, config=config.pdf, limits=config.limits, path=found.path, wanted=wanted)
    container = Container(
        as_blocks=config.pdf.send_as == "images" and _is_own_block(messages, found), write=pdf.write_pdf
    )
    return tuple(
        replace(
            _image(found, page.image, hints, facts | {"kind": "image"}, part=f".pages[{index}]"),
            container=container,
            caption=_caption(found, page.text, index + 1, len(pages)),
        )
        for index, page in enumerate(pages)
    )


def _caption(found: Found, text: str, number: int, num_pages: int) -> str:
    if find_spans(text):
        raise UnguardedError(UnsupportedMediaError("the text of the PDF hides a medium", path=found.path), found)
    numbered = f"Page {number} of {num_pages}:" if num_pages > 1 else ""
    return "\n".join(part for part in (numbered, text) if part)


def _is_own_block(messages: Sequence[BaseMessage], found: Found) -> bool:
    """Return whether blocks of LangChain's may stand for a block: adapters translate them in a message's content."""
    if not found.can_be_several or len(found.block) != 3 or found.block[1] != "content":
        return False
    index, name, position = found.block
    return "type" in getattr(messages[index], name)[position]


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
    found: Found, messages: Sequence[BaseMessage], limits: MediaLimits, hints: dict[str, Any], wanted: Any
) -> DecodedMedium:
    if found.kind == "audio":
        rate = _sibling(messages, found.leaf, "sampling_rate")
        heard = audio.decode_waveform(found.value, sampling_rate=rate, max_seconds=limits.max_seconds, path=found.path)
        return _audio(found, heard, {"kind": "audio"})
    decoded = image.decode_object(found.value, max_pixels=limits.max_pixels, path=found.path, wanted=wanted)
    return _image(found, decoded, hints, {"kind": "image"})


def _image(
    found: Found, decoded: DecodedImage, hints: dict[str, Any], facts: dict[str, Any], *, part: str = ""
) -> DecodedMedium:
    record = Medium(path=found.path + part, action="perturbed", size=decoded.size, notes=decoded.notes, **facts)
    return DecodedMedium(
        kind="image", values=decoded.pixels, sampling_rate=None, record=record, found=found, hints=hints
    )


def _audio(found: Found, heard: DecodedAudio, facts: dict[str, Any], *, part: str = "") -> DecodedMedium:
    record = Medium(path=found.path + part, action="perturbed", duration=heard.duration, **facts)
    return DecodedMedium(
        kind="audio", values=heard.waveform, sampling_rate=heard.sampling_rate, record=record, found=found
    )


def _size_hints(messages: Sequence[BaseMessage], found: Found) -> dict[str, Any]:
    """Return what the dicts of a block, from the outermost to the one that holds the medium, say about its size."""
    hints: dict[str, Any] = {}
    if found.kind not in ("image", "video", "file") or found.span is not None:
        return hints
    index, name, *keys = found.leaf
    node: Any = getattr(messages[index], name)
    for depth, step in enumerate(keys, start=2):
        if depth >= len(found.block) - 1 and isinstance(node, dict):
            hints |= {key: node[key] for key in dialects.SIZE_HINTS & node.keys()}
        node = node[step]
    return hints


def _sibling(messages: Sequence[BaseMessage], leaf: Address, key: str) -> Any:
    """Return the value of another key of the dict that holds a value."""
    index, name, *keys = leaf
    node: Any = getattr(messages[index], name)
    for step in keys[:-1]:
        node = node[step]
    return node.get(key) if isinstance(node, dict) else None
