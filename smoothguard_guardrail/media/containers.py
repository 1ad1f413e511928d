"""Files that hold several media: their parts, and what stands for them in a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import UnsupportedMediaError
from smoothguard_guardrail.media.decoded_medium import Container, DecodedMedium, audio_medium, image_medium
from smoothguard_guardrail.media.pdf import render_pages, write_pdf
from smoothguard_guardrail.media.strings import find_spans
from smoothguard_guardrail.media.video_file import VideoFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig
    from smoothguard_guardrail.media.found_medium import Found
    from smoothguard_guardrail.media.image import SizeRule
    from smoothguard_guardrail.media.video import DecodedVideo

_NAMES = ("title", "filename", "name")
_MAX_NAME = 200


def pdf_parts(
    data: bytes,
    found: Found,
    messages: Sequence[BaseMessage],
    config: MediaConfig,
    wanted: SizeRule | None,
    hints: dict[str, Any],
    facts: dict[str, Any],
) -> tuple[DecodedMedium, ...]:
    """Return the pages of a PDF; see `pdf.render_pages` for the errors.

    Args:
        data: The PDF.
        found: Where it is.
        messages: The request.
        config: How PDFs are read and what is sent for them.
        wanted: The size at which a page is wanted.
        hints: What the block says about the size.
        facts: What the records of all pages say.
    """
    pages = render_pages(data, config=config.pdf, limits=config.limits, path=found.path, wanted=wanted)
    block = own_block(messages, found)
    container = Container(as_blocks=block is not None and config.pdf.send_as == "images", write=write_pdf)
    parts = []
    for index, page in enumerate(pages):
        if find_spans(page.text):
            raise UnsupportedMediaError("a medium is hidden in the text layer", path=found.path)
        part = image_medium(found, page.image, hints, facts | {"kind": "image"}, part=f".pages[{index}]")
        place = f"page {index + 1} of {len(pages)}" if len(pages) > 1 else ""
        title = _caption(block or {}, index, place)
        caption = "\n".join(text for text in (title, page.text) if text)
        parts.append(replace(part, container=container, caption=caption))
    return tuple(parts)


def video_parts(
    video: DecodedVideo,
    found: Found,
    messages: Sequence[BaseMessage],
    config: MediaConfig,
    hints: dict[str, Any],
    facts: dict[str, Any],
) -> tuple[DecodedMedium, ...]:
    """Return the frames of a video and its sound; of a file without frames, the sound as audio like any other.

    Args:
        video: What was decoded.
        found: Where it is; an image that moves is always sent as frames.
        messages: The request.
        config: What is sent for videos.
        hints: What the block says about the size.
        facts: What the records of all parts say.

    Raises:
        UnsupportedMediaError: A new video would have to hold frames of different sizes.
    """
    heard, number = video.sound, len(video.frames)
    if not number and heard is not None:
        mime_type = facts["mime_type"].replace("video/", "audio/")
        facts = facts | {"kind": "audio", "mime_type": mime_type, "notes": video.notes}
        return (audio_medium(found, heard, facts),)
    block = own_block(messages, found)
    as_blocks = block is not None and (config.video.send_as == "frames" or facts["kind"] == "image")
    if not as_blocks and len({frame.image.pixels.shape for frame in video.frames}) > 1:
        raise UnsupportedMediaError("its frames have different sizes, which a new video cannot hold", path=found.path)
    file = VideoFile(tuple(frame.seconds for frame in video.frames), None if heard is None else heard.sampling_rate)
    container = Container(as_blocks=as_blocks, write=file.write, kept_noise=file.kept_noise)
    parts = []
    for index, (frame, seconds) in enumerate(video.frames):
        noted = frame._replace(notes=(f"at {seconds:g} s", *frame.notes, *(video.notes if index == 0 else ())))
        part = image_medium(found, noted, hints, facts | {"kind": "image"}, part=f".frames[{index}]")
        place = f"frame {index + 1} of {number}, at {seconds:.2f} s" if number > 1 else ""
        parts.append(replace(part, container=container, caption=_caption(block or {}, index, place)))
    if heard is not None:
        part = audio_medium(found, heard, facts | {"kind": "audio"}, part=".sound")
        parts.append(replace(part, container=container))
    return tuple(parts)


def own_block(messages: Sequence[BaseMessage], found: Found) -> Mapping[str, Any] | None:
    """Return the block of a message's content that a medium is, for which LangChain's blocks may stand.

    Adapters translate those in a message's content only, and where blocks without a type are expected perhaps not at
    all.
    """
    if not found.can_be_several or len(found.block) != 3 or found.block[1] != "content":
        return None
    index, _, position = found.block
    block: Mapping[str, Any] = messages[index].content[position]  # type: ignore[assignment]
    return block if "type" in block else None


def _caption(block: Mapping[str, Any], index: int, place: str) -> str:
    """Return what a block says about its file besides the bytes, and which part of it this is."""
    file = block.get("file")
    said = {**block, **file} if isinstance(file, dict) else block
    name = next((text for key in _NAMES if (text := _plain(said.get(key), _MAX_NAME))), "")
    title = ", ".join(part for part in (f'"{name}"' if name else "", place) if part)
    context = _plain(said.get("context")) if index == 0 else ""
    return "\n".join(part for part in (context, f"{title[:1].upper()}{title[1:]}:" if title else "") if part)


def _plain(text: object, max_chars: int | None = None) -> str:
    """Return a text that hides no medium; anything else is left out."""
    return text[:max_chars] if isinstance(text, str) and not find_spans(text) else ""
