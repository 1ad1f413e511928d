"""What an answer states: its words, its numbers, and whether it denies, in languages with and without spaces."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from smoothguard_guardrail.voting.folding import fold
from smoothguard_guardrail.voting.lexicon import FUNCTION_WORDS, NEGATIONS, NO, NUMBERS, TENS, UNSPACED_NEGATIONS, YES
from smoothguard_guardrail.voting.polarity import yes_or_no

_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")
_SYMBOL = re.compile(r"([$€£¥₹%°])")
_BREAK = re.compile(r"[\s\-/–—]+|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_EDGE = ".,:;'’_*#?!/\\&@|\"“”„«»()[]।،؟"
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_CONTRACTED_NOT = re.compile(r"(?:ca|wo|ai|is|are|was|were|do|does|did|could|would|should|has|have|had|must|need)nt")
_NEGATIVE_SUFFIX = re.compile(r"m[aeıiuü]y?")
MIN_STEM, MIN_STEM_SHARE = 4, 0.6
"""Characters, and share of the longer word, that two forms of one word share at their start."""


@dataclass(frozen=True)
class Statement:
    """The words of one answer, prepared for comparison.

    Example:
        >>> statement = Statement("It isn't **twenty-one** dollars!")
        >>> statement.words, statement.numbers, statement.denies
        (('it', 'isnt', '21', 'dollars'), frozenset({'21'}), True)
    """

    text: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """In order. A character of Chinese and Japanese counts as a word; number words are digits."""
        words: list[str] = []
        for part in _BREAK.split(_SYMBOL.sub(r" \1 ", _UNSPACED.sub(r" \1 ", self._folded))):
            word = _digits(part.strip(_EDGE))
            if not word:
                continue
            if words and word in NUMBERS and NUMBERS[word] < 10 and words[-1] in _TEN_DIGITS:
                words[-1] = str(int(words[-1]) + NUMBERS[word])
            else:
                words.append(str(NUMBERS.get(word) or TENS.get(word) or word))
        return tuple(words)

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Numbers in digits, with a point for any separator."""
        return frozenset(_plain(match) for word in self.words for match in _NUMBER.findall(word))

    @cached_property
    def denies(self) -> bool:
        """Whether it holds a negation."""
        return any(word in NEGATIONS or _CONTRACTED_NOT.fullmatch(word) for word in self.words) or any(
            negation in self._folded for negation in UNSPACED_NEGATIONS
        )

    @cached_property
    def yes_or_no(self) -> int:
        """1 if it starts with yes, -1 if it starts with no, 0 otherwise."""
        return yes_or_no(self.text)

    @cached_property
    def content(self) -> frozenset[str]:
        """The words that may decide: no function words, no negations, and not a leading yes or no."""
        words = self.words[1:] if self.yes_or_no and self.words and self.words[0] in YES | NO else self.words
        return frozenset(words) - FUNCTION_WORDS - NEGATIONS

    @cached_property
    def _folded(self) -> str:
        return fold(self.text)


_TEN_DIGITS = frozenset(str(value) for value in range(20, 100, 10))


def _digits(word: str) -> str:
    """Return a word with its digits in ASCII."""
    return "".join(
        str(unicodedata.digit(letter)) if letter.isdigit() and not letter.isascii() else letter for letter in word
    )


def _plain(number: str) -> str:
    """Return a number without leading zeros, and without zeros after its last separator."""
    number = number.replace(",", ".").replace(":", ".").lstrip("0")
    return (number.rstrip("0").rstrip(".") if "." in number else number) or "0"


def related(first: str, second: str) -> bool:
    """Return whether two words are forms of one word, going by how they start.

    Turkish negates with a suffix, so such forms are not related.

    Example:
        >>> related("snowing", "snowy"), related("red", "green"), related("onaylandı", "onaylanmadı")
        (True, False, False)
    """
    if first == second:
        return True
    if any(letter.isdigit() for letter in first + second):
        return False
    shared = next(
        (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )
    if shared < MIN_STEM or shared < MIN_STEM_SHARE * max(len(first), len(second)):
        return False
    return not (_NEGATIVE_SUFFIX.match(first, shared) or _NEGATIVE_SUFFIX.match(second, shared))
