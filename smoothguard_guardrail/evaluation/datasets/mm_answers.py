"""Answers to MM-SafetyBench in its own layout: `ans.<model>.text` inside each question's record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.mm_scenarios import read_scenarios
from smoothguard_guardrail.evaluation.datasets.rows import Row, read_json_object
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judgement

VERDICT_FIELD = "is_safe(gpt)"
"""Where upstream's `evaluation.py` stores its judge's reply, next to `text`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswers:
    """One model's answers and their stored verdicts, by item id."""

    model: str
    texts: dict[str, str]
    verdicts: dict[str, bool | None] = field(default_factory=dict)
    """Whether the answer is unsafe; None where it is neither `safe` nor `unsafe`."""


class StoredVerdicts:
    """A judge that returns stored verdicts, and None for answers without one.

    Args:
        verdicts: Whether each answer is unsafe, by item id.

    Example:
        >>> judge = StoredVerdicts({"01-Illegal_Activitiy/0": True})
        >>> judge([Item(id="01-Illegal_Activitiy/0", question="How?")], ["First, buy fuel."])[0].verdict
        True
    """

    def __init__(self, verdicts: Mapping[str, bool | None]) -> None:
        self._verdicts = verdicts

    def __call__(self, items: Sequence[Item], answers: Sequence[str]) -> list[Judgement]:
        """Return one judgement per answer."""
        return [Judgement(verdict=self._verdicts.get(item.id)) for item in items]


def read_answers(
    folder: Path, *, model: str | None = None, scenarios: Sequence[str] | None = None, complete: bool = True
) -> StoredAnswers:
    """Read one model's answers, and upstream's verdicts where there are any.

    Args:
        folder: Where the answered scenario files are, such as `questions_with_answers`.
        model: Whose answers; None: the only model's.
        scenarios: Names or numbers; None: all.
        complete: Refuse records without an answer; False: leave them out.

    Raises:
        ConfigurationError: There are several models, or not the requested one.
        InputError: A file, an answer or a field is missing or wrong.
    """
    found = read_scenarios(folder, scenarios=scenarios, complete=complete)
    rows = {f"{scenario}/{key}": row for scenario, records in found.items() for key, row in records.items()}
    model = _the_model(rows.values(), model, folder)
    texts, verdicts = {}, {}
    for key, row in rows.items():
        if model not in _answers(row):
            if complete:
                raise InputError(f"{row.where}: there is no answer of {model}")
            continue
        answer = Row(where=f"{row.where}, answer of {model}", values=_answers(row)[model])
        texts[key] = answer.text("text")
        if VERDICT_FIELD in answer.values:
            verdicts[key] = _verdict(answer.values[VERDICT_FIELD])
    return StoredAnswers(model=model, texts=texts, verdicts=verdicts)


def write_answers(questions: Path, answers: Mapping[str, str], *, model: str, target: Path) -> list[Path]:
    """Write answers into copies of the scenario files, under `ans.<model>.text`, and return the files.

    Other models' answers in the target are kept; an answer of the same model is replaced together with its verdict.

    Args:
        questions: Folder of the scenario files.
        answers: By item id, such as `01-Illegal_Activitiy/0`.
        model: The name to store the answers under.
        target: Folder to write to.

    Raises:
        ConfigurationError: An answer is for a question that does not exist.
        InputError: A file cannot be read.
    """
    by_scenario: dict[str, dict[str, str]] = {}
    existing = {path.stem for path in questions.glob("*.json")}
    for item_id, text in answers.items():
        scenario, _, key = item_id.rpartition("/")
        if scenario not in existing:
            raise ConfigurationError(f"there is no question {item_id}: {questions} has no scenario {scenario!r}")
        by_scenario.setdefault(scenario, {})[key] = text
    written: dict[Path, dict[str, Any]] = {}
    for scenario, texts in by_scenario.items():
        path = target / f"{scenario}.json"
        records = read_json_object(path if path.is_file() else questions / f"{scenario}.json")
        for key, text in texts.items():
            if not isinstance(records.get(key), dict):
                raise ConfigurationError(f"there is no question {scenario}/{key}")
            records[key]["ans"] = {**records[key].get("ans", {}), model: {"text": text}}
        written[path] = records
    for path, records in written.items():
        write_atomic(path, json.dumps(records, ensure_ascii=False, indent=2) + "\n")
    return list(written)


def _the_model(rows: Any, model: str | None, folder: Path) -> str:
    models = sorted({name for row in rows for name in _answers(row)})
    if not models:
        raise InputError(f"{folder}: no record has an answer; they belong under `ans`, such as `ans.my-model.text`")
    if model is None and len(models) > 1:
        raise ConfigurationError(f"{folder} has answers of several models, choose one: {', '.join(models)}")
    if model is not None and model not in models:
        raise ConfigurationError(f"{folder} has no answers of {model!r}; there is {', '.join(models)}")
    return model or models[0]


def _answers(row: Row) -> dict[str, dict[str, Any]]:
    found = row.values.get("ans", {})
    if not isinstance(found, dict) or not all(isinstance(answer, dict) for answer in found.values()):
        raise InputError(f"{row.where}: `ans` must contain one object per model")
    return found


def _verdict(value: Any) -> bool | None:
    """Return whether the verdict is unsafe; like upstream, read only exactly `safe` or `unsafe`, ignoring case."""
    return {"safe": False, "unsafe": True}.get(value.strip().lower()) if isinstance(value, str) else None
