"""The groups that are voted on: all refusals, all unsure answers, and answers that say and do the same."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import AdapterError

if TYPE_CHECKING:
    from smoothguard_guardrail.protocols import Clusterer, Embed
    from smoothguard_guardrail.result import Stance
    from smoothguard_guardrail.voting.answers import Answer


def group_answers(
    answers: Sequence[Answer], stances: Sequence[Stance], *, clusterer: Clusterer, embed: Embed
) -> list[int]:
    """Return one label per answer; 0 is the largest group, ties by first appearance.

    Answers with equal keys share a group. Answers with different tool calls, media or JSON values never do. All
    refusals are one group, and so are all unsure answers. The clusterer decides about the rest, structure by structure;
    it sees the answers sorted by key, equal ones as equal texts, so the grouping does not depend on their order.

    Args:
        answers: At least one.
        stances: Stance of each.
        clusterer: Groups texts.
        embed: Embeds texts, for clusterers that need it.

    Raises:
        AdapterError: If the clusterer does not return one integer per text.
    """
    groups: dict[str, tuple[object, ...]] = {}
    text_of: dict[str, str] = {}
    by_structure: dict[str, list[str]] = {}
    for answer, stance in sorted(zip(answers, stances, strict=True), key=lambda pair: (pair[0].key, pair[0].text)):
        if stance == "answers":
            text_of.setdefault(answer.key, answer.text)
            by_structure.setdefault(answer.structure, []).append(answer.key)
    for structure, keys in by_structure.items():
        labels = _cluster([text_of[key] for key in keys], clusterer, embed)
        for key, label in zip(keys, labels, strict=True):
            groups.setdefault(key, (structure, label))
    return _renumber(
        [
            (groups[answer.key] if stance == "answers" else (stance,))
            for answer, stance in zip(answers, stances, strict=True)
        ]
    )


def _cluster(texts: list[str], clusterer: Clusterer, embed: Embed) -> list[int]:
    if len(set(texts)) == 1:
        return [0] * len(texts)
    labels: object = clusterer(texts, embed)
    try:
        values = list(labels)  # type: ignore[call-overload]
    except TypeError:
        raise AdapterError(f"the clusterer must return a sequence of labels, got {type(labels).__name__}") from None
    if len(values) != len(texts):
        raise AdapterError(
            f"the clusterer must return one label per answer, got {len(values)} for {len(texts)} answers"
        )
    if not all(isinstance(value, numbers.Integral) for value in values):
        raise AdapterError(f"the clusterer must return integers as labels, got {values[:5]}")
    return [int(value) for value in values]


def _renumber(groups: Sequence[tuple[object, ...]]) -> list[int]:
    sizes = Counter(groups)
    first = {group: place for place, group in reversed(list(enumerate(groups)))}
    ranks = {group: rank for rank, group in enumerate(sorted(sizes, key=lambda group: (-sizes[group], first[group])))}
    return [ranks[group] for group in groups]
