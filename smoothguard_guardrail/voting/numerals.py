"""Numbers, written in digits or spelled out in twelve languages, in one form that can be compared."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from smoothguard_guardrail.voting.folding import fold
from smoothguard_guardrail.voting.lexicon import NUMBERS, TENS

_WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
_DECADES = ("twenties", "thirties", "forties", "fifties", "sixties", "seventies", "eighties", "nineties")


def _table(name: str, values: Sequence[int]) -> dict[str, int]:
    """Return the value of every word in lines that count through the values."""
    lines = _WORDS[name]
    return {word: value for line in lines for word, value in zip(line.split(), values, strict=True) if word != "-"}


def _words(name: str) -> frozenset[str]:
    return frozenset(fold(_WORDS[name]).split())


_HUNDRED, _THOUSAND, _ALONE, _JOINERS = (_words(name) for name in ("hundred", "thousand", "alone", "joiners"))
_FRENCH_HUNDREDS, _FRENCH_UNITS = _words("french_hundreds"), _words("french_units")
_VALUES = {
    fold(word): value
    for table in (
        NUMBERS,
        TENS,
        _table("more_tens", range(30, 100, 10)),
        _table("hundreds", range(100, 1000, 100)),
        *(_table(name, range(10 * ten + 1, 10 * ten + 10)) for ten, name in enumerate(_DECADES, start=2)),
    )
    for word, value in table.items()
}
_INSIDE = {word: int(value) for value, words in _WORDS["inside"].items() for word in fold(words).split()}
_OPENERS = {
    (word, following): opener["value"]
    for opener in _WORDS["openers"]
    for word in fold(opener["words"]).split()
    for following in fold(opener["before"]).split()
}
_ARABIC_TENS = frozenset(
    joined + word
    for word, value in _VALUES.items()
    if 10 <= value < 100 and value % 10 == 0 and "\u0600" <= word[0] <= "\u06ff"
    for joined in ("", "و")
)
_TEN_BEFORE_UNITS = frozenset(("dix", "十", "on"))
_MULTIPLIED_TENS = frozenset(("十", "vingt", "vingts"))
_TENFOLD = frozenset((*"二三四五六七八九", "quatre"))
_COMPOUND = re.compile(r"(?P<hundreds>\w*?)(?:hundert|cento)(?:und)?(?P<rest>\w*)|(?P<unit>\w+?)und(?P<ten>\w+)")
_ITALIAN_TEN = re.compile(r"(?P<ten>vent|trent|quarant|cinquant|sessant|settant|ottant|novant)[ia]?(?P<unit>\w+)")
_MAX_LENGTH = 30
"""Characters of the longest number word: longer words are none, and cost no search."""
_GROUPED = re.compile(r"[1-9]\d{0,2}(?P<separator>[.,])\d{3}(?:(?P=separator)\d{3})*(?:[.,]\d{1,2})?")


def spelled_numbers(words: Sequence[str]) -> list[str]:
    """Return the words with numbers that are spelled out in digits.

    Example:
        >>> spelled_numbers("two hundred and five dollars".split())
        ['205', 'dollars']
        >>> spelled_numbers("treinta y seis euros con veinte".split())
        ['36', 'euros', 'con', '20']
        >>> spelled_numbers(["achthundertzweiundvierzig"]), spelled_numbers(["восемьсот", "сорок", "два"])
        (['842'], ['842'])
    """
    found: list[str] = []
    place = 0
    while place < len(words):
        value, end = _read(words, place)
        found.append(words[place] if value is None else str(value))
        place = end
    return found


def _read(words: Sequence[str], start: int) -> tuple[int | None, int]:
    """Return the number that starts at a word and where it ends; None and the next place if none does."""
    thousands, current, place = 0, None, start
    while place < len(words):
        after_joiner = current is not None and words[place] in _JOINERS and place + 1 < len(words)
        at = place + after_joiner
        word, before = words[at], words[at - 1] if at > start else ""
        if word in _THOUSAND and not thousands and (current is not None or word in _ALONE):
            thousands, current = 1000 * (current or 1), 0
        elif (grown := _grow(current, word, before, "".join(words[at + 1 : at + 2]))) is not None:
            current = grown
        else:
            break
        place = at + 1
    return (None, start + 1) if current is None else (thousands + current, place)


def _grow(current: int | None, word: str, before: str, after: str) -> int | None:
    """Return the number that a word makes of the one before it; None if the word starts a new one or is none."""
    if word in _HUNDRED or (word in _FRENCH_HUNDREDS and before in _FRENCH_UNITS):
        if current:
            return 100 * current if current < 20 else None
        return 100 if word in _ALONE else _OPENERS.get((word, after))
    value = _OPENERS.get((word, after)) or _value(word)
    if value is None and current is not None:
        value = _INSIDE.get(word)
    if not current or value is None:
        return value
    rest = current % 100
    if word in _MULTIPLIED_TENS and before in _TENFOLD:
        return current + (value - 1) * (current % 10)
    fits = rest == 0 or (word in _ARABIC_TENS and rest < 10) if value >= 10 else rest % 10 == 0
    starts_anew = rest == 10 and before not in _TEN_BEFORE_UNITS
    is_french = value < 20 and rest in (60, 80) and before in ("soixante", "vingt", "et")
    return current + value if value < 100 and (is_french or (fits and not starts_anew)) else None


@lru_cache(maxsize=4096)
def _value(word: str) -> int | None:
    """Return the value of a number word, German and Italian compounds included; None for other words."""
    if word in _VALUES:
        return _VALUES[word]
    if len(word) > _MAX_LENGTH:
        return None
    if word.startswith("و") and word[1:] in _VALUES:
        return _VALUES[word[1:]]
    if compound := _COMPOUND.fullmatch(word):
        if compound["unit"]:
            return _sum(compound["ten"], compound["unit"])
        hundreds, rest = _part(compound["hundreds"], 1), _part(compound["rest"], 0)
        return None if hundreds is None or rest is None or word in _HUNDRED else 100 * hundreds + rest
    if italian := _ITALIAN_TEN.fullmatch(word):
        return _sum(italian["ten"] + ("i" if italian["ten"] == "vent" else "a"), italian["unit"].replace("tré", "tre"))
    return None


def _part(word: str, missing: int) -> int | None:
    return _INSIDE.get(word, _value(word)) if word else missing


def _sum(ten: str, unit: str) -> int | None:
    tens, units = _VALUES.get(ten), _INSIDE.get(unit, _VALUES.get(unit))
    return tens + units if tens and units and tens >= 20 and units < 10 else None


def number_groups(number: str) -> tuple[str, ...]:
    """Return a number in digits as its parts: euros and cents, hours and minutes.

    Thousands are joined, and leading zeros and parts of zeros left out. A single digit after a point or comma counts
    tenths. So 4.20 and 4,2 are equal, and 8:00 and 8.

    Example:
        >>> [number_groups(number) for number in ("8:05", "1,280", "1.280,50", "4,2", "23.00", "0.5", "3:0")]
        [('8', '5'), ('1280',), ('1280', '50'), ('4', '20'), ('23',), ('0.50',), ('3', '0')]
    """
    if grouped := _GROUPED.fullmatch(number):
        number = number.replace(grouped["separator"], "")
    whole, *rest = re.split(r"[.,:]", number)
    if rest and len(rest[-1]) == 1 and ":" not in number:
        rest[-1] += "0"
    parts = [part.lstrip("0") or "0" for part in rest if part.strip("0") or (part == "0" and ":" in number)]
    whole = whole.lstrip("0") or "0"
    return (f"{whole}.{parts[0]}", *parts[1:]) if whole == "0" and parts else (whole, *parts)
