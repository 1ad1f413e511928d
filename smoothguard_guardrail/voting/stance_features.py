"""Features of the stance classifier: hashed n-grams of sentences, computed for all texts at once."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUM_BUCKETS = 2**20
"""Number of hash buckets, a power of two."""
MAX_CHARACTERS, MAX_WORDS = 5, 3
"""Longest n-grams of characters and of words."""
MAX_SENTENCES = 64
"""Sentences of one text that are looked at: the first and the last half of them."""

_SENTENCE_END = re.compile(r"(?<=[.!?…;:])[\"'”’»)*_]*\s+|(?<=[。！？；।؟])|\n+")
_APOSTROPHES = re.compile(r"['’‘ʼ`´]")
_DIGITS = re.compile(r"\d+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """N-grams of sentences: parallel arrays with one entry for each n-gram."""

    buckets: NDArray[np.int64]
    """Hash bucket, in [0, NUM_BUCKETS)."""
    sentences: NDArray[np.int64]
    """Index of the sentence, in ascending order."""
    num_sentences: int


def split_sentences(text: str) -> list[str]:
    r"""Return the sentences of a text, lines counting as sentences; the middle of a very long text is left out.

    Example:
        >>> split_sentences("I can't share that. It is 61.73!\nBye")
        ["I can't share that.", 'It is 61.73!', 'Bye']
    """
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    if len(sentences) <= MAX_SENTENCES:
        return sentences
    return sentences[: MAX_SENTENCES // 2] + sentences[-(MAX_SENTENCES // 2) :]


@lru_cache(maxsize=4096)
def normalize(sentence: str) -> str:
    """Return a sentence casefolded, with letters and single spaces only; every number becomes `0`.

    Example:
        >>> normalize("**Sorry**, I can't open door 12!")
        'sorry i cant open door 0'
    """
    plain = unicodedata.normalize("NFKC", sentence).casefold()
    plain = _DIGITS.sub("0", _APOSTROPHES.sub("", plain))
    # Combining marks are part of the letters of Hindi and Arabic, and \w does not match them.
    kept = "".join(
        character if character.isalnum() or unicodedata.category(character)[0] == "M" else " " for character in plain
    )
    return " ".join(kept.split())


def featurize(sentences: Sequence[str]) -> Features:
    """Return the n-grams of normalized sentences.

    Example:
        >>> featurize(["no", "yes"]).num_sentences
        2
    """
    characters = "".join(f" {sentence} " for sentence in sentences)
    points = np.frombuffer(characters.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    words = [("<", *sentence.split(), ">") for sentence in sentences]
    codes = np.array([_word_hash(word) for split in words for word in split], dtype=np.uint64)
    ngrams = [
        *_ngrams(points, [len(sentence) + 2 for sentence in sentences], largest=MAX_CHARACTERS, salt=0),
        *_ngrams(codes, [len(split) for split in words], largest=MAX_WORDS, salt=1000),
    ]
    buckets = np.concatenate([np.zeros(0, np.int64), *(found for found, _ in ngrams)])
    owners = np.concatenate([np.zeros(0, np.int64), *(found for _, found in ngrams)])
    order = np.argsort(owners, kind="stable")
    return Features(buckets=buckets[order], sentences=owners[order], num_sentences=len(sentences))


def _ngrams(
    codes: NDArray[np.uint64], lengths: Sequence[int], *, largest: int, salt: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the buckets of all n-grams of a size, and their sentences, from size 1 on.

    Args:
        codes: What the n-grams are made of, all sentences one after another.
        lengths: Number of codes of each sentence.
        largest: Largest size.
        salt: Keeps the n-grams of one kind of codes apart from those of another.
    """
    owners = np.repeat(np.arange(len(lengths)), lengths)
    hashes = np.zeros(len(codes), dtype=np.uint64)
    for size in range(1, min(largest, len(codes)) + 1):
        count = len(codes) - size + 1
        hashes = hashes[:count] * _MULTIPLIER + codes[size - 1 :] + np.uint64(salt + size)
        inside = owners[:count] == owners[size - 1 :]
        yield _bucket(hashes[inside]), owners[:count][inside]


@lru_cache(maxsize=65536)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def _bucket(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    mixed = (hashes ^ (hashes >> np.uint64(29))) * _MULTIPLIER
    buckets: NDArray[np.int64] = (mixed >> np.uint64(64 - NUM_BUCKETS.bit_length() + 1)).astype(np.int64)
    return buckets
