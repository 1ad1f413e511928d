"""Answers to CompA-order that others made."""

from __future__ import annotations

from pathlib import Path

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.datasets.compa_order import CompaOrder
from smoothguard_guardrail.evaluation.datasets.rows import Row, add_unique, read_json_lines, read_json_object, rows_of

_FIELDS = {"row": ("row_index", "row"), "file": ("selected_audio_file", "file"), "text": ("model_response", "text")}


def read_answers(bench: CompaOrder, path: Path) -> dict[str, str]:
    """Read answers, and join them by row and recording.

    Either the JSON file that the authors' script writes: `questions`, each with `row_index`, `selected_audio_file` and
    `model_response`; or JSON lines with these fields, or with `row`, `file` and `text`, rows counting from 0.

    Args:
        bench: With `ask="every"`, so that any recording may have been asked about.
        path: The file.

    Raises:
        InputError: The file or a field is missing or wrong, a recording is answered twice, or a row has no such file.
    """
    known = {(str(item.details["row"]), str(item.details["file"])): item.id for item in bench.items}
    found: dict[str, str] = {}
    for row in _rows(path):
        number, file = row.key(_present(row, "row")), row.text(_present(row, "file"))
        if (number, file) not in known:
            raise InputError(f"{row.where}: row {number} of the questions has no recording {file}")
        add_unique(found, known[number, file], row.text(_present(row, "text")), row=row, what="the answer to")
    return found


def _rows(path: Path) -> list[Row]:
    if path.suffix != ".json":
        return read_json_lines(path)
    questions = read_json_object(path).get("questions")
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        raise InputError(f"{path}: `questions` must be a list of objects")
    return rows_of(f"{path}, questions", questions)


def _present(row: Row, meaning: str) -> str:
    names = _FIELDS[meaning]
    return next((name for name in names if name in row.values), names[-1])
