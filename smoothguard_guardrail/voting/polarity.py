"""Whether an answer starts with yes or with no, in twelve languages."""

from __future__ import annotations

import re
from functools import lru_cache

from smoothguard_guardrail.voting.folding import fold
from smoothguard_guardrail.voting.lexicon import NO, YES

_MARKS = ",，、。.!！:：;；।،…"
_HEAD = re.compile(rf"[\s{_MARKS}?？]+")
_OPENING = re.compile(rf"[{_MARKS}–—]*([^{_MARKS}–—]{{1,30}})[{_MARKS}–—]+\s*(?=\S)")
_IDIOM = re.compile(
    r"no (problem|worries|doubt|wonder|need|matter|sooner|parking|entry|smoking|trespassing)\b|not (only|just)\b"
)


@lru_cache(maxsize=4096)
def yes_or_no(text: str) -> int:
    """Return 1 if an answer starts with yes, -1 if it starts with no, 0 if with neither.

    Example:
        >>> [yes_or_no(text) for text in ("Yes, a dog.", "Nein.", "いいえ。", "No problem, it is a dog.", "A dog.")]
        [1, -1, -1, 0, 0]
    """
    folded = fold(text)
    if _IDIOM.match(folded):
        return 0
    first = folded.partition(" ")[0]
    head = _HEAD.split(text.strip(), maxsplit=1)[0].casefold()
    for word in (first, head):
        if word in YES:
            return 1
        if word in NO:
            return -1
    return 0


def without_yes_or_no(text: str) -> str:
    """Return an answer without the words for yes or no that open it and end with a punctuation mark.

    Example:
        >>> [without_yes_or_no(text) for text in ("Yes, a dog.", "No. A cat.", "是的，有狗。", "Yes.", "No dogs here.")]
        ['a dog.', 'A cat.', '有狗。', 'Yes.', 'No dogs here.']
    """
    opening = _OPENING.match(text)
    words = fold(opening[1]).split() if opening else []
    return text[opening.end() :] if opening and words and set(words) <= YES | NO else text
