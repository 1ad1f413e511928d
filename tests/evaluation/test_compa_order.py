from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation import Rate
from smoothguard_guardrail.evaluation.datasets import CompaOrder
from smoothguard_guardrail.evaluation.datasets.compa_answers import read_answers
from smoothguard_guardrail.evaluation.datasets.compa_order import chosen_caption
from tests.evaluation.benchmark_files import COMPA, COMPA_COLUMNS, write_compa, write_json, write_lines

ANSWERS = [
    {"row": 0, "file": "t0.wav", "text": "3"},
    {"row": 1, "file": "p1.wav", "text": "3"},  # two captions, and the third chosen
]


@pytest.fixture
def bench(tmp_path: Path) -> CompaOrder:
    return CompaOrder.load(write_compa(tmp_path / "c.csv"), ask="every", with_media=False, complete=False)


def test_items(tmp_path: Path) -> None:
    audio = tmp_path / "CompA_order_files"
    audio.mkdir()
    for row in COMPA:
        for file in row[3:]:
            (audio / file).touch()
    write_compa(tmp_path / "CompA_order_benchmark.csv")
    items = CompaOrder.load(tmp_path, ask="every", complete=False).items
    assert [(item.id, item.label, item.category) for item in items] == [
        ("0/1", "1", "3 options"),
        ("0/2", "2", "3 options"),
        ("0/3", "3", "3 options"),
        ("1/1", "1", "2 options"),
        ("1/2", "2", "2 options"),
    ]
    assert items[2].media == (audio / "t0.wav",)
    assert items[0].question == (
        "Given the audio above, which of the following captions best describes it?\n1. A dog, then a bell\n"
        "2. A bell, then a dog\n3. A dog and a bell\nAnswer with the number (1, 2, or 3) of the best matching caption:"
    )
    assert items[3].question.endswith(
        "2. A car, then rain\nAnswer with the number (1 or 2) of the best matching caption:"
    )


def test_one_recording_per_row_is_drawn_as_the_authors_draw_it() -> None:
    rows = [dict(zip(COMPA_COLUMNS, COMPA[0], strict=True)) for _ in range(400)]
    items = CompaOrder.from_rows(rows).items
    # random.seed(42 + row), then random.randint(0, 2), for the first rows
    assert [item.label for item in items[:6]] == ["3", "1", "2", "2", "1", "2"]
    assert len({item.id for item in items}) == len(items) == 400
    assert CompaOrder.from_rows(rows).items == items


@pytest.mark.parametrize(
    ("text", "num_options", "number"),
    [
        ("2", 2, 2),
        ("2", 3, 2),
        ("3", 3, 3),
        ("3", 2, None),
        ("0", 3, None),
        ("4", 3, None),
        ("Caption 1 of 3.", 3, 1),
        ("1. A dog, then a bell", 3, 1),
        ("12", 3, None),
        ("12 or 2", 3, None),
        ("the second", 3, None),
        ("", 3, None),
        ("9" * 5000, 3, None),
        ("٢", 3, None),
    ],
)
def test_answers_are_parsed(text: str, num_options: int, number: int | None) -> None:
    assert chosen_caption(text, num_options) == number


@given(st.text(), st.integers(2, 3))
def test_any_answer_names_a_caption_or_none(text: str, num_options: int) -> None:
    assert chosen_caption(text, num_options) in (None, *range(1, num_options + 1))


def test_figures_worked_out_by_hand(bench: CompaOrder) -> None:
    scores = bench.score({"0/1": "1", "0/2": "3", "0/3": "3.", "1/1": "3", "1/2": "Number 2"})
    assert {row.group: row.metrics for row in scores.rows} == {
        "3 options": {"accuracy": Rate(k=2, n=3), "invalid": Rate(k=0, n=3)},
        "2 options": {"accuracy": Rate(k=1, n=2), "invalid": Rate(k=1, n=2)},
        "all": {"accuracy": Rate(k=3, n=5), "invalid": Rate(k=1, n=5)},
    }
    assert scores.outcomes == {"0/1": True, "0/2": False, "0/3": True, "1/1": False, "1/2": True}
    assert "1 answers name no caption and count as wrong" in scores.notes


@pytest.mark.parametrize("layout", ["lines", "authors"])
def test_answers_join_by_row_and_recording(bench: CompaOrder, tmp_path: Path, layout: str) -> None:
    if layout == "lines":
        path = write_lines(tmp_path / "a.jsonl", ANSWERS)
    else:
        names = {"row": "row_index", "file": "selected_audio_file", "text": "model_response"}
        questions = [{names[field]: value for field, value in answer.items()} for answer in ANSWERS]
        path = write_json(tmp_path / "a.json", {"metadata": {}, "questions": questions})
    found = read_answers(bench, path)
    assert found == {"0/3": "3", "1/1": "3"}
    scores = bench.answered(found).score(found)
    assert scores.rows[-1].metrics == {"accuracy": Rate(k=1, n=2), "invalid": Rate(k=1, n=2)}
    assert "2 audio files of 2 rows" in scores.notes


def test_rows_without_answers_are_refused(bench: CompaOrder) -> None:
    with pytest.raises(ConfigurationError, match="1 of 2 rows have no answer, such as 1"):
        bench.answered(["0/3"])
    assert len(bench.answered(["0/3"], complete=False).items) == 1
    with pytest.raises(ConfigurationError, match="do not exist, such as 7/1"):
        bench.part(["7/1"])
    with pytest.raises(ConfigurationError, match="4 of 5 items have no answer"):
        bench.score({"0/1": "1"})


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([ANSWERS[0], ANSWERS[0]], "row 2: the answer to 0/3 occurs twice"),
        ([{"row": 1, "file": "t0.wav", "text": "1"}], "row 1: row 1 of the questions has no audio file t0.wav"),
        ([{"row": 9, "file": "t0.wav", "text": "1"}], "row 9 of the questions has no audio file"),
        ([{"row": 0, "text": "1"}], "`file` is missing"),
        ([{"row": 0, "file": "t0.wav", "text": 3}], "`text` must be a text"),
    ],
)
def test_wrong_answers_are_refused(bench: CompaOrder, tmp_path: Path, answers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_answers(bench, write_lines(tmp_path / "a.jsonl", answers))


def test_an_answer_file_without_questions_is_refused(bench: CompaOrder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`questions` must be a list of objects"):
        read_answers(bench, write_json(tmp_path / "a.json", {"metadata": {}}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("A", "B", "-", "a.wav", "b.wav", "c.wav"), r"row 1: `triplet_caption` is missing, but the other half"),
        (("A", "B", "C", "a.wav", "-", "c.wav"), r"row 1: `reversed_pair_file` is missing"),
        (("A", "-", "-", "a.wav", "-", "-"), r"row 1: must have at least two captions with audio files"),
        (("A", "B", "C", "a.wav", "b.wav"), r"row 1: must have 6 fields"),
        (("A", "B", "C", "a.wav", "b.wav", "c.wav", "d"), r"row 1: must have 6 fields"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, row: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompaOrder.load(write_compa(tmp_path / "c.csv", [row]), with_media=False, complete=False)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = write_compa(tmp_path / "c.csv")
    with pytest.raises(InputError, match="2 rows, and the published file has 400"):
        CompaOrder.load(path, with_media=False)
    with pytest.raises(InputError, match=r"5 of 5 media files are missing, such as .*CompA_order_files.p0.wav"):
        CompaOrder.load(path, ask="every", complete=False)
    with pytest.raises(ConfigurationError, match="`ask` must be one or every"):
        CompaOrder.load(path, ask="two", with_media=False, complete=False)  # type: ignore[arg-type]
    write_compa(path, [row[:5] for row in COMPA], COMPA_COLUMNS[:5])
    with pytest.raises(InputError, match=r"no column triplet_file; there is pair_caption"):
        CompaOrder.load(path, with_media=False, complete=False)
    with pytest.raises(InputError, match=r"CompA_order_benchmark.csv cannot be read"):
        CompaOrder.load(tmp_path, with_media=False, complete=False)
    rows = [("A", "B", "-", "/etc/a.wav", "b.wav", "-")]
    with pytest.raises(InputError, match="is not a name of a file in a folder"):
        CompaOrder.load(write_compa(path, rows), ask="every", complete=False)
