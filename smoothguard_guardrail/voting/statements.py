"""What an answer states: its words, its numbers, and whether it denies, in languages with and without spaces."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from smoothguard_guardrail.voting.folding import fold
from smoothguard_guardrail.voting.lexicon import FUNCTION_WORDS, NEGATIONS, NO, UNSPACED_NEGATIONS, YES
from smoothguard_guardrail.voting.numerals import number_groups, spelled_numbers
from smoothguard_guardrail.voting.polarity import without_yes_or_no, yes_or_no

_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")
_SYMBOL = re.compile(r"([$€£¥₹%°])")
_BREAK = re.compile(r"[\s/–—]+|-(?!\d)|(?<=\w)-(?=\d)|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_EDGE = ".,:;'’_*#?!/\\&@|\"“”„«»()[]।،؟"
_NUMBER = re.compile(r"-?\d+(?:[.,:]\d+)*")
# English ordinals, and Turkish cases.
_SUFFIX_OF_NUMBER = re.compile(r"(?<=\d)(?:st|nd|rd|th|['’][a-zçğıöşü]{1,4})\b")
_CONTRACTED_NOT = re.compile(r"(?:ca|wo|ai|is|are|was|were|do|does|did|could|would|should|has|have|had|must|need)nt")
_NEGATIVE_SUFFIX = re.compile(r"m[aeıiuü]y?|s[ıiuü]z|less|los|frei|free")
_ARABIC_VOWELS = re.compile(r"[\u064b-\u0652]")
_ARABIC_ARTICLE = re.compile(r"[وبكف]?(?:ال|لل)(?=\w\w)")
_NEVER_WITH_ARTICLE = FUNCTION_WORDS | NEGATIONS
MIN_STEM, MIN_STEM_SHARE = 4, 0.6
"""Characters, and share of the longer word, that two forms of one word share at their start."""
MIN_WORD, MAX_ENDING = 3, 4
"""Characters of a word, and of an ending that makes another form of it."""


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
        """In order. A character of Chinese and Japanese counts as a word; numbers are digits, a word for each part."""
        words: list[str] = []
        for word in spelled_numbers(self._tokens):
            words += number_groups(word) if _NUMBER.fullmatch(word) else [_without_article(word)]
        return tuple(words)

    @cached_property
    def claim(self) -> tuple[str, ...]:
        """Its words without an opening yes or no: "Yes, it is red." claims what "It is red." does."""
        shorter = without_yes_or_no(self.text)
        return self.words if shorter == self.text else Statement(shorter).words

    @cached_property
    def numbers(self) -> frozenset[str]:
        """The parts of its numbers, and numbers of several parts also whole."""
        parts = [number_groups(word) for word in self._tokens if _NUMBER.fullmatch(word)]
        whole = {".".join(number) for number in parts if len(number) > 1}
        return frozenset(whole | {word for word in self.words if _NUMBER.fullmatch(word)})

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
    def content_by_start(self) -> Mapping[str, Sequence[str]]:
        """`content` by its first characters, which words that are `related` share."""
        found: dict[str, list[str]] = {}
        for word in self.content:
            found.setdefault(word[:MIN_WORD], []).append(word)
        return found

    @cached_property
    def _tokens(self) -> list[str]:
        parts = _BREAK.split(_SYMBOL.sub(r" \1 ", _UNSPACED.sub(r" \1 ", self._folded)))
        return [word for word in (_digits(part.strip(_EDGE)) for part in parts) if word]

    @cached_property
    def _folded(self) -> str:
        return fold(_ARABIC_VOWELS.sub("", _SUFFIX_OF_NUMBER.sub("", self.text)))


def _without_article(word: str) -> str:
    """Return an Arabic word without the article that is written with it."""
    article = None if word in _NEVER_WITH_ARTICLE else _ARABIC_ARTICLE.match(word)
    return word[article.end() :] if article else word


def _digits(word: str) -> str:
    """Return a word with its digits in ASCII."""
    return "".join(
        str(unicodedata.digit(letter)) if letter.isdigit() and not letter.isascii() else letter for letter in word
    )


def related(first: str, second: str) -> bool:
    """Return whether two words are forms of one word, going by how they start.

    One may be the other with an ending, unless the ending negates, as *-less* does and Turkish *-ma*.

    Example:
        >>> related("snowing", "snowy"), related("red", "green"), related("end", "endless")
        (True, False, False)
    """
    if first == second:
        return True
    if first[:MIN_WORD] != second[:MIN_WORD]:
        return False
    if any(letter.isdigit() for letter in first + second):
        return False
    shorter, longer = sorted((first, second), key=len)
    shared = next(
        (place for place, pair in enumerate(zip(shorter, longer, strict=False)) if pair[0] != pair[1]), len(shorter)
    )
    has_ending = shared == len(shorter) >= MIN_WORD and len(longer) <= shared + MAX_ENDING
    if not has_ending and (shared < MIN_STEM or shared < MIN_STEM_SHARE * len(longer)):
        return False
    return not (_NEGATIVE_SUFFIX.match(shorter, shared) or _NEGATIVE_SUFFIX.match(longer, shared))
