"""Answers and judgements, matched with their items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.evaluation.datasets.rows import add_unique, read_json_lines
from smoothguard_guardrail.evaluation.items import Answer, Item
from smoothguard_guardrail.evaluation.scores import Judge, Judgement


def in_order(items: Sequence[Item], answers: Mapping[str, str]) -> list[str]:
    """Return the answers in the order of the items.

    Raises:
        ConfigurationError: An item has no answer, or an answer has no item.
    """
    missing = [item.id for item in items if item.id not in answers]
    if missing:
        raise ConfigurationError(f"{len(missing)} of {len(items)} items have no answer, such as {_first(missing)}")
    unknown = list(answers.keys() - {item.id for item in items})
    if unknown:
        raise ConfigurationError(
            f"{len(unknown)} answers are for items that do not exist, such as {_first(sorted(unknown))}"
        )
    return [answers[item.id] for item in items]


def holds_item_ids(path: Path) -> bool:
    """Whether a file has answers by item id, as `smoothguard eval run` writes them.

    Raises:
        InputError: The file cannot be read.
    """
    return "item_id" in read_json_lines(path)[0].values


def read_item_answers(path: Path) -> dict[str, Answer]:
    """Read answers by item id: `item_id`, and `text`, or `error` where the call failed.

    Raises:
        InputError: The file cannot be read, an item is answered twice, or a field is missing or wrong.
    """
    found: dict[str, Answer] = {}
    for row in read_json_lines(path):
        key = row.key("item_id")
        if row.values.get("error") is None:
            answer = Answer(item_id=key, text=row.text("text"))
        else:
            answer = Answer(item_id=key, error=row.text("error"))
        add_unique(found, key, answer, row=row, what="the answer to")
    return found


def answered_part(items: Sequence[Item], ids: Iterable[str]) -> tuple[Item, ...]:
    """Return the items with these ids, in the order of the items.

    Raises:
        ConfigurationError: An id has no item.
    """
    wanted = set(ids)
    found = tuple(item for item in items if item.id in wanted)
    unknown = sorted(wanted - {item.id for item in found})
    if unknown:
        raise ConfigurationError(f"{len(unknown)} answers are for items that do not exist, such as {_first(unknown)}")
    return found


def by_category(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Group items by category, in order of appearance, and then all of them under `all`."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.category, []).append(item)
    return {**groups, "all": list(items)}


def judged(judge: Judge, items: Sequence[Item], texts: Sequence[str]) -> Sequence[Judgement]:
    """Return one judgement per answer.

    Raises:
        AdapterError: The judge returned more or fewer.
    """
    found = judge(items, texts)
    if len(found) != len(items):
        raise AdapterError(f"the judge returned {len(found)} judgements for {len(items)} answers")
    return found


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3])
