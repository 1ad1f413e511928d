"""HTML that no text breaks out of: whatever is not `Html` already is escaped, in contents and in attributes alike."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

VOID: Final = frozenset({"img", "link", "meta"})
JOINERS: Final = "\n\t\u200c\u200d"
"""Characters without a shape that texts need: lines, and what joins letters and emoji."""
HIDDEN: Final = frozenset({"Cc", "Cf", "Zl", "Zp"})
MARKS: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?=\S)(?P<strong>[^*]+)(?<=\S)\*\*"
    r"|(?<![\w*])\*(?=\S)(?P<em>[^*]+)(?<=\S)\*(?![\w*])"
)


class Html(str):
    """Text that is HTML already. What is glued to it with `+` or a format is plain text again, and escaped."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        name: Its tag.
        children: Its contents, in order; strings that are no `Html` are escaped, None is left out.
        attributes: Escaped; None is left out. `class_` stands for `class`, `aria_label` for `aria-label`.

    Example:
        >>> print(element("p", "1 < 2", element("b", "!"), class_="note"))
        <p class="note">1 &lt; 2<b>!</b></p>
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*parts: str | None) -> Html:
    """Return parts one after the other; those that are no `Html` are escaped, None is left out."""
    return Html("".join(part if isinstance(part, Html) else escaped(part) for part in parts if part is not None))


def escaped(text: str) -> Html:
    r"""Return plain text as HTML; characters that hide, or turn the order of others around, are shown by number.

    Example:
        >>> print(escaped('"a" \u202e b'))
        &quot;a&quot; [U+202E] b
    """
    text = text.replace("\r\n", "\n")
    if not text.isprintable():
        text = "".join(f"[U+{ord(each):04X}]" if _hides(each) else each for each in text)
    return Html(html.escape(text))


def marked_up(text: str) -> Html:
    """Return a paragraph's text as HTML: `*emphasis*`, `**strong**` and `` `code` `` are the only markup.

    Example:
        >>> print(marked_up("*Most* of `a*b*c` is <b>"))
        <em>Most</em> of <code>a*b*c</code> is &lt;b&gt;
    """
    parts: list[str] = []
    start = 0
    for found in MARKS.finditer(text):
        name = found.lastgroup or "em"
        inside = found[name]
        parts += [text[start : found.start()], element(name, inside if name == "code" else marked_up(inside))]
        start = found.end()
    return joined(*parts, text[start:])


def _hides(character: str) -> bool:
    return character not in JOINERS and unicodedata.category(character) in HIDDEN


def _number(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
