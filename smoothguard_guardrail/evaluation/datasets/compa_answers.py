"""Existing answers to CompA-order."""

from __future__ import annotations

from pathlib import Path

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.datasets.compa_order import CompaOrder
from smoothguard_guardrail.evaluation.datasets.rows import Row, add_unique, read_json_lines, read_json_object, rows_of

_FIELDS = {"row": ("row_index", "row"), "file": ("selected_audio_file", "file"), "text": ("model_response", "text")}


def read_answers(bench: CompaOrder, path: Path) -> dict[str, str]:
    """Read answers, joined by row and audio file.

    Either the JSON file that the authors' script writes: `questions`, each with `row_index`, `selected_audio_file` and
    `model_response`; or JSON lines with these fields, or with `row`, `file` and `text`, rows counting from 0.

    Args:
        bench: With `ask="every"`, since answers may be about any audio file.
        path: The file.

    Raises:
        InputError: The file or a field is missing or wrong, or an audio file is answered twice or is not of its row.
    """
    known = {(str(item.details["row"]), str(item.details["file"])): item.id for item in bench.items}
    found: dict[str, str] = {}
    for row in _rows(path):
        number, file = row.key(_present(row, "row")), row.text(_present(row, "file"))
        if (number, file) not in known:
            raise InputError(f"{row.where}: row {number} of the questions has no audio file {file}")
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
