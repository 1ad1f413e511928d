"""CompA-order: does a model hear the order of events? Audio files, each with two or three captions.

Source: Ghosh et al. 2024, CompA, arXiv 2310.08753; asked as a choice among numbered captions, like SmoothGuard's
authors (arXiv 2510.26830, `audio_eval`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.answers import answered_part, by_category, in_order
from smoothguard_guardrail.evaluation.datasets.base import ItemBenchmark
from smoothguard_guardrail.evaluation.datasets.rows import PARTS, Row, file_in, read_csv, require_media, rows_of
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, ScoreRow, Scores
from smoothguard_guardrail.evaluation.statistics import Rate

PAIRS = (
    ("pair_caption", "pair_file"),
    ("reversed_pair_caption", "reversed_pair_file"),
    ("triplet_caption", "triplet_file"),
)
"""Columns of each caption and its audio file, in the order of the captions' numbers."""
NUM_ROWS = 400

_MISSING = "-"
_FIRST_SEED = 42
_CSV, _AUDIO = "CompA_order_benchmark.csv", "CompA_order_files"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompaOrder(ItemBenchmark):
    """CompA-order's audio files; categories are `2 options` and `3 options`, labels the caption's number.

    Ids look like `17/2`: the row, from 0, and which of its audio files is asked about.
    """

    name: ClassVar[str] = "compa-order"

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        audio: Path | None = None,
        ask: Literal["one", "every"] = "one",
        with_media: bool = True,
        complete: bool = True,
    ) -> Self:
        """Read the CSV file of captions and audio files.

        Args:
            folder: The CSV file, or the folder with `CompA_order_benchmark.csv`.
            audio: Folder of the audio files; None: `CompA_order_files` next to the CSV file.
            ask: `one`: about one audio file per row, drawn as the authors do; `every`: about all of them.
            with_media: False: questions without audio, enough to score existing answers.
            complete: Refuse anything but the 400 published rows.

        Raises:
            InputError: A file, a column, a row or an audio file is missing or wrong.
        """
        folder = Path(folder)
        path = folder / _CSV if folder.is_dir() else folder
        return cls.from_rows(
            read_csv(path, [column for pair in PAIRS for column in pair]),
            audio=(audio or path.parent / _AUDIO) if with_media else None,
            ask=ask,
            complete=complete,
        )

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row | Mapping[str, Any]],
        *,
        audio: Path | None = None,
        ask: Literal["one", "every"] = "one",
        complete: bool = True,
    ) -> Self:
        """Make items of rows with the columns in `PAIRS`; `-`, blank or None mean missing.

        Raises:
            ConfigurationError: `ask` is neither of the two.
            InputError: A row or an audio file is missing or wrong.
        """
        if ask not in ("one", "every"):
            raise ConfigurationError(f"`ask` must be one or every, got {ask!r}")
        named = rows_of("CompA-order", rows)
        if complete and len(named) != NUM_ROWS:
            raise InputError(f"{len(named)} rows, and the published file has {NUM_ROWS}; {PARTS}")
        items: list[Item] = []
        for number, row in enumerate(named):
            options = _options(row)
            asked = range(len(options)) if ask == "every" else [_drawn(number, len(options))]
            items += [_item(number, row, options, place, audio) for place in asked]
        require_media(items, "give the folder of the audio files as `audio`")
        notes = (f"asked about {ask} audio file of each row", *(() if complete else (f"{len(named)} rows",)))
        return cls(items=tuple(items), notes=notes)

    def answered(self, ids: Iterable[str], *, complete: bool = True) -> Self:
        """Return the benchmark with only the items that were asked about.

        Args:
            ids: Ids of the items.
            complete: Refuse rows without any of these items.

        Raises:
            ConfigurationError: An id has no item, or a row has none of these items.
        """
        items = answered_part(self.items, ids)
        rows = {str(item.details["row"]) for item in self.items}
        if complete and (missing := sorted(rows - {str(item.details["row"]) for item in items}, key=int)):
            raise ConfigurationError(
                f"{len(missing)} of {len(rows)} rows have no answer, such as {', '.join(missing[:3])}"
            )
        return replace(self, items=items, notes=(f"{len(items)} audio files of {len(rows)} rows",))

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers: accuracy, by number of options and overall.

        An answer that names no caption of its row is wrong, as for the authors; `invalid` counts those.

        Raises:
            ConfigurationError: Answers are missing, or are for items that do not exist.
        """
        texts = in_order(self.items, answers)
        chosen = {
            item.id: chosen_caption(text, int(item.category[0])) for item, text in zip(self.items, texts, strict=True)
        }
        rows = tuple(_row(group, items, chosen) for group, items in by_category(self.items).items())
        invalid = sum(number is None for number in chosen.values())
        return Scores(
            benchmark=self.name,
            rows=rows,
            outcomes={item.id: str(chosen[item.id]) == item.label for item in self.items},
            notes=(*self.notes, *([f"{invalid} answers name no caption and count as wrong"] if invalid else [])),
        )


def chosen_caption(text: str, num_options: int) -> int | None:
    """Return the number of the caption that an answer chooses: the first run of digits, if a caption has that number.

    Number words are not read, and neither is a caption's wording.

    Args:
        text: The answer.
        num_options: How many captions there are: 2 or 3.

    Example:
        >>> chosen_caption("Caption 2, of the 3.", 3), chosen_caption("3", 2), chosen_caption("the second", 2)
        (2, None, None)
    """
    found = re.search(r"[0-9]+", text)
    number = int(found[0][:9]) if found else 0
    return number if 1 <= number <= num_options else None


def _options(row: Row) -> list[tuple[str, str]]:
    """Return the captions and files of a row, in the order of their numbers."""
    options = []
    for caption, file in PAIRS:
        pair = {column: _value(row, column) for column in (caption, file)}
        absent = [column for column, value in pair.items() if value is None]
        if len(absent) == 1:
            raise InputError(f"{row.where}: `{absent[0]}` is missing, but the other half of its pair is there")
        if not absent:
            options.append((str(pair[caption]), str(pair[file])))
    if len(options) < 2:
        raise InputError(f"{row.where}: must have at least two captions with audio files")
    return options


def _value(row: Row, column: str) -> str | None:
    if row.values.get(column) is None:
        return None
    text = row.text(column).strip()
    return None if text in ("", _MISSING) else text


def _drawn(number: int, num_options: int) -> int:
    return random.Random(_FIRST_SEED + number).randint(0, num_options - 1)  # noqa: S311 - the authors' draw


def _item(number: int, row: Row, options: Sequence[tuple[str, str]], place: int, audio: Path | None) -> Item:
    file = options[place][1]
    captions = [caption for caption, _ in options]
    return Item(
        id=f"{number}/{place + 1}",
        question=_question(captions),
        media=() if audio is None else (file_in(audio, file, where=row.where),),
        category=f"{len(options)} options",
        label=str(place + 1),
        details={"row": number, "file": file, "captions": list(captions)},
    )


def _question(captions: Sequence[str]) -> str:
    """Return the authors' question."""
    numbers = "1 or 2" if len(captions) == 2 else "1, 2, or 3"
    return "\n".join(
        [
            "Given the audio above, which of the following captions best describes it?",
            *(f"{number}. {caption}" for number, caption in enumerate(captions, 1)),
            f"Answer with the number ({numbers}) of the best matching caption:",
        ]
    )


def _row(group: str, items: Sequence[Item], chosen: Mapping[str, int | None]) -> ScoreRow:
    return ScoreRow(
        group=group,
        num_items=len(items),
        metrics={
            "accuracy": Rate.of(str(chosen[item.id]) == item.label for item in items),
            "invalid": Rate.of(chosen[item.id] is None for item in items),
        },
    )
