"""Damage that any file can take; the same generator does the same damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Case = tuple[str, bytes]
"""What was done, in a few words, and the bytes."""
INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damaged(
    name: str,
    data: bytes,
    rng: Random,
    own: Sequence[Callable[[bytes, Random], bytes]],
    other: Callable[[], bytes],
    seal: Callable[[bytes], bytes],
) -> Case:
    """Damage a medium up to three times, then repair its checksums half of the time, so that damage gets further."""

    def splice(data: bytes, rng: Random) -> bytes:
        piece, at = other(), rng.randrange(len(data) + 1)
        start = rng.randrange(len(piece) + 1)
        return data[:at] + piece[start : start + rng.choice((16, 256, 10**6))] + data[at:]

    notes = [name]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        damage = rng.choice((flip, flip, _truncate, _set_integer, _set_integer, _move, splice, *own))
        data = damage(data, rng)
        notes.append(damage.__name__.strip("_"))
    if len(notes) > 1 and rng.random() < 0.5:
        data = seal(data)
    return " ".join(notes), data


def flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    end = min(len(data), rng.choice((64, 512, len(data))))
    for _ in range(rng.choice((1, 1, 3, 30)) if end else 0):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _set_integer(data: bytes, rng: Random) -> bytes:
    """Overwrite a number in the header, or anywhere, with an extreme one."""
    size = rng.choice((1, 2, 4))
    number = (rng.choice(INTEGERS) & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
    at = rng.randrange(min(len(data), rng.choice((64, 256, 10**9))) + 1)
    return data[:at] + number + data[at + size :]


def _move(data: bytes, rng: Random) -> bytes:
    """Cut a piece out, and put it elsewhere or nowhere, or twice."""
    start = rng.randrange(len(data) + 1)
    piece = data[start : start + rng.choice((1, 16, 300, 5_000))]
    rest = data[:start] + data[start + len(piece) :]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + piece * rng.choice((0, 1, 2, 50)) + rest[at:]
