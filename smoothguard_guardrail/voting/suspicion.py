"""How much a request looks like an attack: how its clean copy's answer differs from those of the perturbed copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smoothguard_guardrail.result import Stance

_UNSURE = 0.25
_DIFFERENT = 0.5


def suspicion(labels: Sequence[int], stances: Sequence[Stance]) -> float | None:
    """Return the suspicion of a request in [0, 1]; None without a perturbed copy to compare with.

    It is the mean, over the perturbed copies, of how their answer differs from the clean copy's:

    | The clean copy | A perturbed copy | Difference |
    |---|---|---|
    | any | in the same group | 0 |
    | answers or refuses | is unsure, which noise alone explains | 0.25 |
    | any | any other difference | 0.5 |
    | answers | refuses, as when noise breaks an attack | 1 |

    Args:
        labels: Group of each answer, the clean copy's first.
        stances: Stance of each answer.

    Example:
        >>> suspicion([0, 1, 1, 0], ["answers", "refuses", "refuses", "answers"])
        0.6666666666666666
    """
    if len(labels) < 2:
        return None
    differences = [
        _difference(stances[0], stance) if label != labels[0] else 0.0
        for label, stance in zip(labels[1:], stances[1:], strict=True)
    ]
    return sum(differences) / len(differences)


def _difference(clean: Stance, perturbed: Stance) -> float:
    if clean == "answers" and perturbed == "refuses":
        return 1.0
    return _UNSURE if perturbed == "unsure" else _DIFFERENT
