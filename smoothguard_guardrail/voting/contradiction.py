"""Whether two answers contradict each other, however close their embeddings are."""

from __future__ import annotations

import re
from functools import lru_cache

from smoothguard_guardrail.voting.answers import fold

MAX_SHORT_WORDS = 12
"""Longest answer, in words, whose numbers and negations are compared."""

_YES = re.compile(r"(yes|yeah|yep|yup|sure|certainly|absolutely|definitely|indeed|correct|true|affirmative)\b")
_NO = re.compile(r"(no|nope|nah|not|never|none|incorrect|false|negative|wrong)\b")
_IDIOM = re.compile(r"no (problem|worries|doubt|wonder|need|matter|sooner)\b|not (only|just)\b")
_NEGATION = re.compile(
    r"\b(no|not|none|never|neither|nor|nothing|nobody|nowhere|cannot|without|(ca|wo|ai|is|are|was|were|do|does|did"
    r"|could|would|should|has|have|had|must)nt)\b"
)
_STATEMENT = re.compile(
    r"(there (is|are|was|were)|theres|it (is|does|has|shows)|its|they are|this is|that is|i (can|do|see)"
    r"|(the|this) \w+( \w+)? (is|are|does|has|shows|contains|depicts))\b"
)
_WORD = re.compile(r"\w+")
_NUMBER_WORDS = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty"
)
_NUMBER_VALUES = {word: float(value) for value, word in enumerate(_NUMBER_WORDS.split("|"))}
_NUMBER = re.compile(rf"(?<![\w.])-?(?:[0-9]+(?:,[0-9]{{3}})*(?:\.[0-9]+)?|\.[0-9]+)|\b(?:{_NUMBER_WORDS})\b")


@lru_cache(maxsize=4096)
def polarity(text: str) -> int:
    """Return 1 if an answer affirms, -1 if it denies or refuses, 0 if it does neither or is not clear.

    A leading yes or no decides, however long the answer. Without one, an answer of at most `MAX_SHORT_WORDS` words
    denies when it holds a negation, and affirms when it is a plain statement (`There is`, `It is`, ...). English only:
    in other languages the result is 0 and only the embedding decides.

    Example:
        >>> [polarity(text) for text in ("Yes, a dog.", "There is no dog.", "There is a dog.", "A dog.")]
        [1, -1, 1, 0]
    """
    folded = fold(text)
    if _YES.match(folded):
        return 1
    idiom = _IDIOM.match(folded)
    if _NO.match(folded) and not idiom:
        return -1
    if idiom or not _is_short(folded):
        return 0
    if _NEGATION.search(folded):
        return -1
    return 1 if _STATEMENT.match(folded) else 0


@lru_cache(maxsize=4096)
def numbers(text: str) -> frozenset[float]:
    """Return the numbers in a short answer, in digits or as words up to twenty; none for a long answer.

    Example:
        >>> sorted(numbers("There are two or 7,391."))
        [2.0, 7391.0]
    """
    folded = fold(text)
    if not _is_short(folded):
        return frozenset()
    return frozenset(
        _NUMBER_VALUES[item] if item in _NUMBER_VALUES else float(item.replace(",", ""))
        for item in _NUMBER.findall(folded)
    )


def contradict(first: tuple[str, str], second: tuple[str, str]) -> bool:
    r"""Return whether two answers, each given as (key, text), cannot mean the same.

    They contradict if their tool calls differ, if one affirms and the other denies, or if both are short and name
    different numbers.

    Example:
        >>> contradict(("\nit is 2", "It is 2"), ("\nit is 3", "It is 3"))
        True
    """
    (first_key, first_text), (second_key, second_text) = first, second
    if first_key.partition("\n")[0] != second_key.partition("\n")[0]:
        return True
    if polarity(first_text) * polarity(second_text) < 0:
        return True
    ours, theirs = numbers(first_text), numbers(second_text)
    return bool(ours and theirs) and ours != theirs


def _is_short(folded: str) -> bool:
    return len(_WORD.findall(folded)) <= MAX_SHORT_WORDS
