from __future__ import annotations

from pathlib import Path

import pytest

from smoothguard_guardrail._internal.files import atomic_file, file_sha256, read_json_lines, write_atomic
from smoothguard_guardrail.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomic(path, "old")

    def fail_half_way() -> None:
        with atomic_file(path) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_with_unix_line_ends(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a.txt", "ü\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\xbc\n"


def test_a_changed_file_has_a_new_hash(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"1")
    first = file_sha256(path)
    path.write_bytes(b"22")
    assert file_sha256(path) != first == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    with pytest.raises(InputError, match="cannot be read"):
        file_sha256(tmp_path / "missing")


def test_a_bad_json_line_is_named(tmp_path: Path) -> None:
    write_atomic(tmp_path / "rows.jsonl", '\ufeff{"a": 1}\n\n{"a": \n')
    with pytest.raises(InputError, match=r"rows\.jsonl, line 3"):
        read_json_lines(tmp_path / "rows.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read_json_lines(tmp_path / "missing.jsonl")
