"""Reading benchmark files, strictly: whatever is wrong is refused with the file, the row and the field."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.items import Item

V = TypeVar("V")

PARTS = "parts must be asked for (`complete=False`, --partial)"
"""What is said where a file is not the published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record of a file, and where it stands.

    Example:
        >>> Row(where="q.jsonl, row 3", values={"text": "Is there a dog?"}).text("text")
        'Is there a dog?'
    """

    where: str
    """As `questions.jsonl, row 17`; rows count from 1."""
    values: Mapping[str, Any]

    def text(self, field: str) -> str:
        """Return a field that must be a text.

        Raises:
            InputError: It is missing or no text.
        """
        value = self._value(field)
        if not isinstance(value, str):
            raise InputError(f"{self.where}: `{field}` must be a text, and is {value!r}")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise InputError(f"{self.where}: `{field}` holds half a character, and cannot be written: {value!r}")
        return value

    def key(self, field: str) -> str:
        """Return a field that names something: a text or a whole number, as a text.

        Raises:
            InputError: It is missing or neither.
        """
        value = self._value(field)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise InputError(f"{self.where}: `{field}` must be a number or a text, and is {value!r}")
        return str(value)

    def _value(self, field: str) -> Any:
        if field not in self.values:
            raise InputError(f"{self.where}: `{field}` is missing; there is {', '.join(self.values) or 'nothing'}")
        return self.values[field]


def rows_of(source: str, records: Iterable[Row | Mapping[str, Any]]) -> list[Row]:
    """Name records that come from elsewhere than a file by their source and number; rows of files stay as they are."""
    return [
        record if isinstance(record, Row) else Row(where=f"{source}, row {number}", values=record)
        for number, record in enumerate(records, 1)
    ]


def read_json_lines(path: Path) -> list[Row]:
    """Read a file with one JSON object per line; blank lines do not count as rows.

    Raises:
        InputError: The file cannot be read, or a line is no JSON object.
    """
    lines = [line for line in _text(path).split("\n") if line.strip()]
    rows = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, row {number}"
        try:
            values = _parsed(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON ({error}); the file must contain one JSON object per line") from error
        if not isinstance(values, dict):
            raise InputError(f"{where}: must be a JSON object; the file must contain one per line")
        rows.append(Row(where=where, values=values))
    if not rows:
        raise InputError(f"{path} is empty")
    return rows


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that is one JSON object.

    Raises:
        InputError: The file cannot be read, or is something else.
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
        raise InputError(f"{path} is not a CSV: {error}") from error
    for row in rows:
        if None in row.values or None in row.values.values():
            raise InputError(f"{row.where}: must have {len(reader.fieldnames or ())} fields")
    return rows


def by_key(rows: Iterable[Row], field: str) -> dict[str, Row]:
    """Index rows by a field that is unique among them.

    Raises:
        InputError: It is not.
    """
    found: dict[str, Row] = {}
    for row in rows:
        add_unique(found, row.key(field), row, row=row, what=f"`{field}`")
    return found


def add_unique(found: dict[str, V], key: str, value: V, *, row: Row, what: str) -> None:
    """Add an entry that may not be there yet.

    Raises:
        InputError: It is.
    """
    if key in found:
        raise InputError(f"{row.where}: {what} {key} occurs twice")
    found[key] = value


def file_in(folder: Path, name: str, *, where: str) -> Path:
    """Return the path of a file that a row names.

    Raises:
        InputError: The name leads out of the folder.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not name or PureWindowsPath(name).drive:
        raise InputError(f"{where}: {name!r} is not a name of a file in a folder")
    return folder / name


def require_media(items: Sequence[Item], hint: str) -> None:
    """Check that every medium is there.

    Raises:
        InputError: Some are not.
    """
    wanted = dict.fromkeys(path for item in items for path in item.media)
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} of {len(wanted)} media files are missing, as {missing[0]}: {hint}")


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
