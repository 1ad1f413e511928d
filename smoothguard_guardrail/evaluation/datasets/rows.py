"""Strict readers of benchmark files: errors name the file, the row and the field."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from smoothguard_guardrail._internal import files
from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.items import Item

V = TypeVar("V")

PARTS = "parts must be asked for (`complete=False`, --partial)"
"""Advice in errors about files that are not the published ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record of a file, and its location.

    Example:
        >>> Row(where="q.jsonl, row 3", values={"text": "Is there a dog?"}).text("text")
        'Is there a dog?'
    """

    where: str
    """Location for messages, such as `questions.jsonl, row 17`, counting from 1."""
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """Return a text field.

        Raises:
            InputError: It is missing or not a text.
        """
        value = self._value(field)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: `{field}` must be a text, got {value!r}")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise InputError(f"{self.where}: `{field}` holds half a character (a lone surrogate): {value!r}")
        return value

    def key(self, field: str) -> str:
        """Return an identifier, a text or a whole number, as a text.

        Raises:
            InputError: It is missing or neither.
        """
        value = self._value(field)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise InputError(f"{self.where}: `{field}` must be a number or a text, got {value!r}")
        return str(value)

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise InputError(f"{self.where}: `{field}` is missing; there is {', '.join(self.values) or 'nothing'}")
        return self.values[field]


def rows_of(source: str, records: Iterable[Row | Mapping[str, Any]]) -> list[Row]:
    """Return records as rows located by source and number; rows stay as they are."""
    return [
        record if isinstance(record, Row) else Row(where=f"{source}, row {number}", values=record)
        for number, record in enumerate(records, 1)
    ]


def read_json_lines(path: Path) -> list[Row]:
    """Read a file with one JSON object per line; blank lines do not count as rows.

    Raises:
        InputError: The file cannot be read or is empty, or a line is not a JSON object.
    """
    values = [value for _, value in files.read_json_lines(path, parse=_parsed)]
    rows = [Row(where=f"{path}, row {number}", values=each) for number, each in enumerate(values, 1)]
    for row in rows:
        if not isinstance(row.values, dict):
            raise InputError(f"{row.where}: must be a JSON object; the file must contain one per line")
    if not rows:
        raise InputError(f"{path} is empty")
    return rows


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        InputError: The file cannot be read, or is not a JSON object.
    """
    try:
        values = _parsed(_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must be a JSON object")
    return values


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """Read a CSV file with a header.

    Raises:
        InputError: The file cannot be read, a column is missing, or a row is too long or too short.
    """
    reader = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise InputError(f"{path}: no column {', '.join(absent)}; there is {', '.join(reader.fieldnames or ())}")
        rows = [Row(where=f"{path}, row {number}", values=values) for number, values in enumerate(reader, 1)]
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file: {error}") from error
    for row in rows:
        if None in row.values or None in row.values.values():
            raise InputError(f"{row.where}: must have {len(reader.fieldnames or ())} fields")
    return rows


def by_key(rows: Iterable[Row], field: str) -> dict[str, Row]:
    """Index rows by a unique field.

    Raises:
        InputError: A value occurs twice.
    """
    found: dict[str, Row] = {}
    for row in rows:
        add_unique(found, row.key(field), row, row=row, what=f"`{field}`")
    return found


def add_unique(found: dict[str, V], key: str, value: V, *, row: Row, what: str) -> None:
    """Add a new entry.

    Raises:
        InputError: The key exists.
    """
    if key in found:
        raise InputError(f"{row.where}: {what} {key} occurs twice")
    found[key] = value


def file_in(folder: Path, name: str, *, where: str) -> Path:
    """Return the path of a file that a row names.

    Raises:
        InputError: The name points outside the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not name or PureWindowsPath(name).drive:
        raise InputError(f"{where}: {name!r} is not a name of a file in a folder")
    return folder / name


def require_media(items: Sequence[Item], hint: str) -> None:
    """Check that every media file exists.

    Raises:
        InputError: Some are missing.
    """
    wanted = dict.fromkeys(path for item in items for path in item.media)
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(wanted)} media files are missing, such as {missing[0]}: {hint}")


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} occurs twice in one object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
