"""Folds a text to its canonical form, without what does not change its meaning."""

from __future__ import annotations

import re
import unicodedata

_ALWAYS_KEPT = frozenset("%‰&@/\\?")
_KEPT_INSIDE_WORDS = frozenset(".,:'_*#")
_KEPT_BEFORE_DIGITS = frozenset(".#")
_APOSTROPHES = frozenset("'’‘ʼ`")
_MINUS = str.maketrans("−‐‑–—", "-----")


def fold(text: str) -> str:
    """Return the text casefolded, without the characters that do not change its meaning."""
    marked = "".join(_mark(character) for character in text)
    plain = unicodedata.normalize("NFKC", marked).casefold()
    plain = unicodedata.normalize("NFKC", plain).translate(_MINUS)
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    return " ".join("".join(_fold_character(plain, place) for place in range(len(plain))).split())


def _mark(character: str) -> str:
    """Keep superscripts, subscripts and fractions apart from the plain digits that NFKC makes of them."""
    kind = unicodedata.decomposition(character).partition(">")[0]
    return {"<super": "^", "<sub": "₊", "<fraction": " "}.get(kind, "") + character


_BEFORE_NUMBER = re.compile(r"\s*\.?\d")


def _fold_character(text: str, place: int) -> str:
    """Return one character as it is, a space, or nothing. When in doubt, keep the character."""
    character = text[place]
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    between_digits = before.isdigit() and after.isdigit()
    if character in _APOSTROPHES and not between_digits:
        return ""
    if unicodedata.category(character)[0] not in "PZC" or character in _ALWAYS_KEPT or between_digits:
        return character
    if character == "-" or (character == "*" and before != "*" and after.isspace()):
        kept = _BEFORE_NUMBER.match(text, place + 1) or (before.isdigit() and after.isalnum())
    elif before.isalnum() and after.isalnum() and character in _KEPT_INSIDE_WORDS:
        kept = True
    else:
        kept = character in _KEPT_BEFORE_DIGITS and (after.isdigit() or (character == "#" and before.isalnum()))
    return character if kept else " "
