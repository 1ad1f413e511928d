"""LLaVA-Bench (In-the-Wild): open questions about images, reviewed by a judge against GPT-4's answers.

Source: Liu et al. 2023, Visual Instruction Tuning; repository haotian-liu/LLaVA, `eval_gpt_review_bench.py` and
`summarize_gpt_review.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.datasets.answers import in_order, judged
from smoothguard_guardrail.evaluation.datasets.base import ItemBenchmark
from smoothguard_guardrail.evaluation.datasets.llava_reviews import Review, check_sizes, parse_review, score_reviews
from smoothguard_guardrail.evaluation.datasets.rows import (
    Row,
    by_key,
    file_in,
    read_json_lines,
    read_json_object,
    require_media,
    rows_of,
)
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, Scores

_RULE_PREFIX = "llava_bench_"

Records = Iterable[Row | Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LlavaBench(ItemBenchmark):
    """LLaVA-Bench's questions; categories are `complex`, `conv` and `detail`, ids are the `question_id`.

    `Item.details` has the parts of the judge's prompt: `context`, `reference`, `role` and `rule`.
    """

    name: ClassVar[str] = "llava-bench"

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        images: Path | None = None,
        rule: Path | None = None,
        with_media: bool = True,
        complete: bool = True,
    ) -> Self:
        """Read `questions.jsonl`, `context.jsonl`, `answers_gpt4.jsonl` and `rule.json`.

        Args:
            folder: Where these files are.
            images: Folder of the images; None: `images` next to the files.
            rule: LLaVA's `llava/eval/table/rule.json`; None: `rule.json` next to the other files.
            with_media: False: questions without images, enough to score existing answers.
            complete: Refuse anything but the 60 published questions.

        Raises:
            InputError: A file, a row, a field or an image is missing or wrong.
        """
        folder = Path(folder)
        return cls.from_rows(
            read_json_lines(folder / "questions.jsonl"),
            contexts=read_json_lines(folder / "context.jsonl"),
            references=read_json_lines(folder / "answers_gpt4.jsonl"),
            rules=read_json_object(rule or folder / "rule.json"),
            images=(images or folder / "images") if with_media else None,
            complete=complete,
        )

    @classmethod
    def from_rows(
        cls,
        questions: Records,
        *,
        contexts: Records,
        references: Records,
        rules: Mapping[str, Any],
        images: Path | None = None,
        complete: bool = True,
    ) -> Self:
        """Make items of the published rows.

        Args:
            questions: `question_id`, `image`, `text`, `category`.
            contexts: `image`, and `caption`: a text or a list of texts.
            references: `question_id` and `text`, GPT-4's answers.
            rules: `role` and `prompt` by `llava_bench_<category>`.
            images: Folder of the images; None: questions without images.
            complete: Refuse anything but the 60 published questions.

        Raises:
            InputError: A row, a field or an image is missing or wrong.
        """
        rows = by_key(rows_of("questions", questions), "question_id")
        captions = {key: _captions(row) for key, row in by_key(rows_of("context", contexts), "image").items()}
        answers = by_key(rows_of("answers_gpt4", references), "question_id")
        items = tuple(_item(key, row, captions, answers, rules, images) for key, row in rows.items())
        if unknown := answers.keys() - rows.keys():
            raise InputError(f"{answers[min(unknown)].where}: there is no question {min(unknown)}")
        if complete:
            check_sizes("questions", [item.category for item in items])
        require_media(items, "give the folder of the images as `images`")
        return cls(items=items, notes=() if complete else (f"{len(items)} questions",))

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers by a judge's reviews: `Judgement.reply`, read by `parse_review`.

        Raises:
            ConfigurationError: Answers are missing, are for items that do not exist, or there is no judge.
        """
        texts = in_order(self.items, answers)
        if judge is None:
            raise ConfigurationError("LLaVA-Bench needs a judge that writes reviews, such as `ReviewJudge`")
        reviews = [
            Review(item_id=item.id, category=item.category, scores=parse_review(found.reply), content=found.reply)
            for item, found in zip(self.items, judged(judge, self.items, texts), strict=True)
        ]
        return score_reviews(reviews, items=self.items, notes=self.notes)


def review_prompt(item: Item, answer: str) -> str:
    """Return the judge's prompt in upstream's layout: context, question, both answers, rule.

    Args:
        item: Of a `LlavaBench`.
        answer: The second assistant's; the first one's is the reference.

    Source: `eval_gpt_review_bench.py`, with several captions joined by line breaks.
    """
    context, role = item.details["context"], item.details["role"]
    return (
        f"[Context]\n{context}\n\n"
        f"[Question]\n{item.question}\n\n"
        f"[{role} 1]\n{item.details['reference']}\n\n[End of {role} 1]\n\n"
        f"[{role} 2]\n{answer}\n\n[End of {role} 2]\n\n"
        f"[System]\n{item.details['rule']}\n\n"
    )


def _item(
    key: str,
    row: Row,
    captions: Mapping[str, str],
    references: Mapping[str, Row],
    rules: Mapping[str, Any],
    images: Path | None,
) -> Item:
    image, category = row.text("image"), row.text("category")
    if image not in captions:
        raise InputError(f"{row.where}: there is no context for the image {image}")
    if key not in references:
        raise InputError(f"{row.where}: there is no reference answer to question {key}")
    name = f"{_RULE_PREFIX}{category}"
    if not isinstance(rules.get(name), Mapping):
        raise InputError(f"{row.where}: rule.json has no rule {name}")
    rule = Row(where=f"rule.json, {name}", values=rules[name])
    return Item(
        id=key,
        question=row.text("text"),
        media=() if images is None else (file_in(images, image, where=row.where),),
        category=category,
        details={
            "context": captions[image],
            "reference": references[key].text("text"),
            "role": rule.text("role"),
            "rule": rule.text("prompt"),
        },
    )


def _captions(row: Row) -> str:
    caption = row.values.get("caption")
    texts: Sequence[Any] = caption if isinstance(caption, list) else [caption]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{row.where}: `caption` must be a text or a list of texts, got {caption!r}")
    return "\n".join(texts)
