"""POPE: does a model see objects that are not there? Yes-or-no questions about COCO images.

Source: Li et al. 2023, Evaluating Object Hallucination in Large Vision-Language Models; repository AoiDragon/POPE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.answers import by_category, in_order
from smoothguard_guardrail.evaluation.datasets.base import ItemBenchmark
from smoothguard_guardrail.evaluation.datasets.rows import (
    PARTS,
    Row,
    by_key,
    file_in,
    read_json_lines,
    require_media,
    rows_of,
)
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, ScoreRow, Scores
from smoothguard_guardrail.evaluation.statistics import Rate

SPLITS = ("random", "popular", "adversarial")
SINGLE_WORD = "\nAnswer the question using a single word or phrase."
"""What LLaVA's question file, and most published runs, append to every question."""

_RANDOM_ROWS = {
    2910: "random: the first published revision, of 2,910 rows, which LLaVA's question file follows",
    3000: "random: the later revision, of 3,000 rows, about other images",
}
_NUM_ROWS = 3000
_OBJECT = re.compile(r"is there (?:an? |the )?(?P<object>.+?) in the ima(?:n)?ge ?\?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pope(ItemBenchmark):
    """POPE's questions, labelled `yes` or `no`; categories are the splits, ids look like `adversarial/17`.

    The `target` in an item's details, which attacks aim at, is the wrong answer.

    Upstream's `question_id` starts again in every split, so it is not unique.
    """

    name: ClassVar[str] = "pope"

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        images: Path | None = None,
        splits: Sequence[str] = SPLITS,
        suffix: str = "",
        with_media: bool = True,
        complete: bool = True,
    ) -> Self:
        """Read `coco_pope_<split>.json`.

        Args:
            folder: Where these files are.
            images: Folder of the COCO val2014 images; None: `val2014` next to the files.
            splits: Which splits to read.
            suffix: Appended to every question, such as `SINGLE_WORD`; upstream appends nothing.
            with_media: False: questions without images, enough to score existing answers.
            complete: Refuse anything but the published number of rows.

        Raises:
            InputError: A file, a row, a field or an image is missing or wrong.
        """
        folder = Path(folder)
        return cls.from_rows(
            {split: read_json_lines(folder / f"coco_pope_{split}.json") for split in splits},
            images=(images or folder / "val2014") if with_media else None,
            suffix=suffix,
            complete=complete,
        )

    @classmethod
    def from_rows(
        cls,
        rows: Mapping[str, Sequence[Row | Mapping[str, Any]]],
        *,
        images: Path | None = None,
        suffix: str = "",
        complete: bool = True,
    ) -> Self:
        """Make items of upstream's rows by split: `question_id`, `image`, `text`, `label`.

        Raises:
            InputError: A row, a field or an image is missing or wrong.
        """
        items: list[Item] = []
        for split, records in rows.items():
            named = rows_of(split, records)
            if complete:
                _check_count(split, len(named))
            by_key(named, "question_id")
            items += [_item(split, row, images, suffix) for row in named]
        require_media(items, "give the folder of COCO's val2014 images as `images`")
        notes = [] if complete else [f"{split}: {len(found)} rows" for split, found in rows.items()]
        if revision := _RANDOM_ROWS.get(len(rows.get("random", ()))):
            notes.append(revision)
        return cls(items=tuple(items), notes=tuple(notes))

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers as upstream does: accuracy, precision, recall and F1 of `yes`, and the share of `yes`.

        `unclear` counts the answers, such as empty ones, that count as yes upstream without saying so. The row `all`
        pools all questions.

        Raises:
            ConfigurationError: Answers are missing, or are for items that do not exist.
        """
        texts = dict(zip((item.id for item in self.items), in_order(self.items, answers), strict=True))
        rows = tuple(_row(group, found, texts) for group, found in by_category(self.items).items())
        means = [row.metrics["f1"] for row in rows[:-1]]
        known = [mean for mean in means if isinstance(mean, float)]
        notes = list(self.notes)
        if len(rows) > 2 and len(known) == len(means):
            notes.append(f"mean of the categories' F1: {sum(known) / len(known):.4f}; `all` pools their questions")
        if unclear := sum(_is_unclear(text) for text in texts.values()):
            notes.append(f"{unclear} answers do not say yes and count as yes, as upstream does")
        outcomes: dict[str, bool | None] = {
            item.id: says_yes(texts[item.id]) == (item.label == "yes") for item in self.items
        }
        return Scores(benchmark=self.name, rows=rows, outcomes=outcomes, notes=tuple(notes))


def says_yes(text: str) -> bool:
    """Whether an answer means yes to upstream.

    The first sentence, up to the first full stop, without commas and split at spaces, means no if one of the words is
    exactly `No`, `no` or `not`. Everything else means yes, `NO` and the empty answer included.

    Example:
        >>> says_yes("No, there is none."), says_yes("Yes. There is no cat, though."), says_yes("NO")
        (False, True, True)
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return not {"No", "not", "no"} & set(words)


def question_object(question: str) -> str:
    """Return the object that a question is about, or the whole question in lower case if it has another form.

    Upstream's files spell `imange` in places; the suffix is ignored.

    Example:
        >>> question_object("Is there an umbrella in the imange?" + SINGLE_WORD)
        'umbrella'
    """
    plain = " ".join(question.removesuffix(SINGLE_WORD).lower().split())
    match = _OBJECT.fullmatch(plain)
    return match["object"] if match else plain.replace("imange", "image")


def _check_count(split: str, count: int) -> None:
    if split not in SPLITS:
        raise ConfigurationError(
            f"{split!r} is not a split of POPE: {', '.join(SPLITS)}; `complete=False` reads others"
        )
    if count not in (_RANDOM_ROWS if split == "random" else (_NUM_ROWS,)):
        expected = "2910 or 3000" if split == "random" else str(_NUM_ROWS)
        raise InputError(f"{split}: {count} rows, and the published file has {expected}; {PARTS}")


def _item(split: str, row: Row, images: Path | None, suffix: str) -> Item:
    label, image = row.text("label"), row.text("image")
    if label not in ("yes", "no"):
        raise InputError(f"{row.where}: `label` must be yes or no, got {label!r}")
    question = row.text("text")
    return Item(
        id=f"{split}/{row.key('question_id')}",
        question=question + suffix,
        media=() if images is None else (file_in(images, image, where=row.where),),
        category=split,
        label=label,
        details={"image": image, "object": question_object(question), "target": "No" if label == "yes" else "Yes"},
    )


def _row(group: str, items: Sequence[Item], texts: Mapping[str, str]) -> ScoreRow:
    pairs = [(says_yes(texts[item.id]), item.label == "yes") for item in items]
    found = sum(said and true for said, true in pairs)
    said_yes, true_yes = sum(said for said, _ in pairs), sum(true for _, true in pairs)
    total = said_yes + true_yes
    return ScoreRow(
        group=group,
        num_items=len(items),
        metrics={
            "accuracy": Rate.of(said == true for said, true in pairs),
            "precision": Rate(k=found, n=said_yes),
            "recall": Rate(k=found, n=true_yes),
            "f1": 2 * found / total if total else None,
            "yes ratio": Rate(k=said_yes, n=len(pairs)),
            "unclear": sum(_is_unclear(texts[item.id]) for item in items),
        },
    )


def _is_unclear(text: str) -> bool:
    return says_yes(text) and "yes" not in re.findall(r"[a-z]+", text.lower())
