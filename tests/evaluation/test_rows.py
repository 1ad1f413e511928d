"""Files of benchmarks come from anywhere: whatever is wrong in them is refused, quickly and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.evaluation.datasets.rows import Row, file_in, read_csv, read_json_object


@pytest.mark.parametrize("text", ["a,b\n" + "x" * 200_000 + ",1\n", 'a,b\n"1,2\n\r\r3\n'])
def test_what_the_csv_reader_does_not_take_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, newline="")
    with pytest.raises(InputError, match=r"a\.csv"):
        read_csv(tmp_path / "a.csv", ["a", "b"])


def test_a_doubled_key_is_found_among_many(tmp_path: Path) -> None:
    keys = [str(number) for number in range(100_000)]  # quadratic work would take minutes
    text = ", ".join(f'"{key}": 0' for key in [*keys, keys[-1]])
    (tmp_path / "a.json").write_text(f"{{{text}}}")
    with pytest.raises(InputError, match="'99999' occurs twice"):
        read_json_object(tmp_path / "a.json")


def test_half_a_character_is_refused() -> None:
    row = Row(where="a.jsonl, row 1", values={"text": "a \ud800 b", "whole": "a \U0001f600 é b"})
    with pytest.raises(InputError, match="row 1: `text` holds half a character"):
        row.text("text")
    assert row.text("whole") == "a \U0001f600 é b"


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "..\\a.png", "C:a.png", "C:\\a.png", "\\\\host\\share\\a.png", ""]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="not a name of a file"):
        file_in(tmp_path, name, where="row 1")
