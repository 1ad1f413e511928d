"""Cases: pictures side by side, and what every arm answered. Answers are hostile text, and shown as they are."""

from __future__ import annotations

import base64
import struct

from smoothguard_guardrail.evaluation.report.content import Answers, Case
from smoothguard_guardrail.evaluation.report.markup import Html, element

HEADER = 24
"""Bytes of a PNG file up to the end of its width and height."""
MAX_PIXELATED = 256
"""Pictures up to this width are enlarged with hard edges: each of their pixels counts."""
LONG = 400
"""Characters from which on an answer may need to scroll, and so to be reached with the keyboard."""
NO_TEXT = element("span", "(no text)", class_="note")


def case(content: Case, key: str) -> Html:
    """Return one item.

    Args:
        content: What it shows.
        key: Unique within the page.
    """
    pictures = [_picture(caption, uri, content.title) for caption, uri in content.pictures.items()]
    return element(
        "article",
        element("h3", content.title, id=f"{key}-title"),
        element("p", element("span", "Question ", class_="label"), element("q", content.question), class_="question"),
        element("div", *pictures, class_="pictures") if pictures else None,
        element("div", *(_arm(answers) for answers in content.answers), class_="arms"),
        id=key,
        class_="case",
        aria_labelledby=f"{key}-title",
    )


def _picture(caption: str, uri: str, title: str) -> Html:
    width, height = _size(uri)
    image = element(
        "img",
        src=uri,
        alt=f"{caption}: {title}",
        width=width,
        height=height,
        class_="pixelated" if width <= MAX_PIXELATED else None,
    )
    return element("figure", image, element("figcaption", caption))


def _size(uri: str) -> tuple[int, int]:
    """Read width and height off the file's header."""
    data = uri.partition(",")[2]
    head = base64.b64decode(data[: HEADER * 4 // 3])
    width, height = struct.unpack(">II", head[16:HEADER])
    return width, height


def _arm(content: Answers) -> Html:
    verdict = element("span", content.verdict, class_="verdict") if content.verdict else None
    scrolls = len(content.answer) > LONG or content.answer.count("\n") > LONG // 40
    shown = element("p", content.answer or NO_TEXT, class_="answer", tabindex="0" if scrolls else None)
    return element("section", element("h4", content.arm, " " if verdict else None, verdict), shown, _samples(content))


def _samples(content: Answers) -> Html | None:
    if not content.samples:
        return None
    number = len(content.samples)
    items = (element("li", text or NO_TEXT) for text in content.samples)
    summary = element("summary", "The sample answer" if number == 1 else f"All {number} sample answers")
    return element("details", summary, element("ol", *items, class_="samples"))
