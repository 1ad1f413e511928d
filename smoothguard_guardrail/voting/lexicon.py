"""Words of closed classes in twelve languages, read from `lexicon.toml`.

Open classes (colours, names, verdicts) are not listed: `matching` finds what decides by aligning the answers.
"""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

_CLASSES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _values(lines: list[str], values: range) -> dict[str, int]:
    """Return the value of every number word in lines that count through the values."""
    return {word: value for line in lines for word, value in zip(line.split(), values, strict=True) if word != "-"}


def _contrasts(classes: list[str]) -> frozenset[tuple[str, str]]:
    """Return the pairs of words from the two sides of each class, in both orders."""
    sides = [tuple(side.split() for side in line.split("|")) for line in classes]
    pairs = [pair for first, second in sides for pair in itertools.product(first, second)]
    return frozenset(pairs) | frozenset((second, first) for first, second in pairs)


YES = frozenset(_CLASSES["yes"].split())
"""Words that affirm at the start of an answer."""
NO = frozenset(_CLASSES["no"].split())
"""Words that deny at the start of an answer."""
NEGATIONS = frozenset(_CLASSES["negations"].split())
"""Words that negate anywhere in an answer."""
UNSPACED_NEGATIONS = tuple(_CLASSES["unspaced_negations"].split())
"""Negations of languages without spaces between words, found anywhere."""
NUMBERS = _values(_CLASSES["numbers"], range(2, 21))
"""Value of the words for two to twenty."""
TENS = _values(_CLASSES["tens"], range(30, 100, 10))
"""Value of the words for thirty to ninety."""
FUNCTION_WORDS = frozenset(_CLASSES["function_words"].split())
"""Words that decide nothing by themselves: articles, pronouns, auxiliaries, and how answers report what they see."""
PERSONS = _contrasts(_CLASSES["persons"])
"""Pairs of pronouns of which one stands for a man, the other for a woman."""
PLACES = _contrasts(_CLASSES["places"])
"""Pairs of adverbs of which one stands for a place near by, the other for one far away."""
