"""Puts sections of the README into pages, so that figures stand in one place.

A page says `{{ README: Heading }}`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_README = Path(__file__).parents[1] / "README.md"
_MARK = re.compile(r"\{\{ README: (?P<heading>[^}]+?) \}\}")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every mark by the section of that heading, its subsections included."""
    return _MARK.sub(lambda mark: section(mark["heading"]), markdown)


def section(heading: str) -> str:
    """Return the README's section without its own heading.

    Raises:
        ValueError: If there is none.
    """
    text = _README.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE))
    if heading not in sections:
        raise ValueError(f"the README has no section {heading!r}")
    # A blank line after headings, which Python-Markdown wants before a table.
    return re.sub(
        r"^(#+ .*)\n(?!\n)", r"\1\n\n", sections[heading].strip(), flags=re.MULTILINE
    )
