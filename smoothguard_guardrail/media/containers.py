"""Files that hold several media: their parts, and what stands for them in a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import UnsupportedMediaError
from smoothguard_guardrail.media.decoded_medium import Container, DecodedMedium, image_medium
from smoothguard_guardrail.media.pdf import render_pages, write_pdf
from smoothguard_guardrail.media.strings import find_spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig
    from smoothguard_guardrail.media.found_medium import Found
    from smoothguard_guardrail.media.image import SizeRule

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
    block = _own_block(messages, found)
    container = Container(as_blocks=block is not None and config.pdf.send_as == "images", write=write_pdf)
    parts = []
    for index, page in enumerate(pages):
        if find_spans(page.text):
            raise UnsupportedMediaError("a medium is hidden in the text layer", path=found.path)
        part = image_medium(found, page.image, hints, facts | {"kind": "image"}, part=f".pages[{index}]")
        title = _caption(block or {}, index, len(pages))
        caption = "\n".join(text for text in (title, page.text) if text)
        parts.append(replace(part, container=container, caption=caption))
    return tuple(parts)


def _own_block(messages: Sequence[BaseMessage], found: Found) -> Mapping[str, Any] | None:
    """Return the block of a message's content that a medium is, for which LangChain's blocks may stand.

    Adapters translate those in a message's content only, and where blocks without a type are expected perhaps not at
    all.
    """
    if not found.can_be_several or len(found.block) != 3 or found.block[1] != "content":
        return None
    index, _, position = found.block
    block: Mapping[str, Any] = messages[index].content[position]  # type: ignore[assignment]
    return block if "type" in block else None


def _caption(block: Mapping[str, Any], index: int, num_pages: int) -> str:
    """Return what a block says about its file besides the bytes, and which page this is."""
    file = block.get("file")
    said = {**block, **file} if isinstance(file, dict) else block
    name = next((text for key in _NAMES if (text := _plain(said.get(key), _MAX_NAME))), "")
    place = f"page {index + 1} of {num_pages}" if num_pages > 1 else ""
    title = ", ".join(part for part in (f'"{name}"' if name else "", place) if part)
    context = _plain(said.get("context")) if index == 0 else ""
    return "\n".join(part for part in (context, f"{title[:1].upper()}{title[1:]}:" if title else "") if part)


def _plain(text: object, max_chars: int | None = None) -> str:
    """Return a text that hides no medium; anything else is left out."""
    return text[:max_chars] if isinstance(text, str) and not find_spans(text) else ""
