from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from smoothguard_guardrail.models.generation import Completion, complete, cut_at, cut_stream

LETTERS = "abc"
PAD, EOS = 0, 1


class Letters:
    """Token 2 is "a", 3 is "b", 4 is "c"; 0 and 1 are special."""

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(LETTERS[token - 2] for token in ids if token >= 2)


@given(
    pieces=st.lists(st.text(LETTERS, max_size=4), max_size=8),
    stop=st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=3),
)
@example(pieces=["ac", "a"], stop=["c", "aca"])
def test_a_cut_stream_is_the_cut_text(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    cut = cut_at(text, stop)
    source = iter(pieces)
    out = list(cut_stream(source, stop))
    assert "".join(out) == text[:cut]
    assert all(out)
    assert next(source, None) is None, "the producer has been read to its end"


def test_a_stream_without_stop_strings_holds_nothing_back() -> None:
    assert list(cut_stream(iter(["ab", "c", "a"]), [])) == ["ab", "c", "a"]


@pytest.mark.parametrize("pad", [PAD, EOS])
@pytest.mark.parametrize(
    ("ids", "stop", "expected"),
    [
        ([2, 3, 4], [], Completion(text="abc", output_tokens=3, finish_reason="length")),
        ([2, 3, EOS], [], Completion(text="ab", output_tokens=3, finish_reason="stop")),
        ([EOS], [], Completion(text="", output_tokens=1, finish_reason="stop")),
        ([2, 3, 4], ["c"], Completion(text="ab", output_tokens=3, finish_reason="stop")),
        ([2, 3, 4], ["c", "bc"], Completion(text="a", output_tokens=3, finish_reason="stop")),
        ([2, 3, 4], ["d"], Completion(text="abc", output_tokens=3, finish_reason="length")),
    ],
)
def test_padding_changes_nothing(ids: list[int], stop: list[str], expected: Completion, pad: int) -> None:
    for padding in range(1 if expected.finish_reason == "length" else 3):  # rows that ended are padded
        row = torch.tensor(ids + [pad] * padding)
        assert complete(row, Letters(), eos_ids=[EOS], pad_id=pad, stop=stop) == expected
