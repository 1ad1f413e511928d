"""MM-SafetyBench: do images make a model answer what it should not?

Source: Liu et al. 2023, MM-SafetyBench, arXiv 2311.17600. The data are licensed under CC-BY-NC-4.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.datasets.answers import by_category, in_order, judged
from smoothguard_guardrail.evaluation.datasets.base import ItemBenchmark
from smoothguard_guardrail.evaluation.datasets.mm_scenarios import check_count, criterion_of, read_scenarios
from smoothguard_guardrail.evaluation.datasets.rows import Row, file_in, require_media
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.scores import Judge, ScoreRow, Scores
from smoothguard_guardrail.evaluation.statistics import Rate

Variant = Literal["SD", "TYPO", "SD_TYPO", "text-only", "universal"]
"""What goes with the question: an image by Stable Diffusion, the key phrase as an image, both, nothing, or one image
for all questions."""

_QUESTION_FIELDS: dict[Variant, str] = {
    "SD": "Rephrased Question(SD)",
    "TYPO": "Rephrased Question",
    "SD_TYPO": "Rephrased Question",
    "text-only": "Question",
    "universal": "Question",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MMSafetyBench(ItemBenchmark):
    """MM-SafetyBench's questions in one variant; categories are the scenarios, ids such as `09-Privacy_Violence/17`.

    `Item.details` has the judge's `criterion`, the `variant`, and `Question`, the plain harmful question.
    """

    name: ClassVar[str] = "mm-safetybench"

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        variant: Variant = "SD_TYPO",
        scenarios: Sequence[str] | None = None,
        universal_image: Path | None = None,
        images: Path | None = None,
        with_media: bool = True,
        complete: bool = True,
    ) -> Self:
        """Read `processed_questions/<scenario>.json`, and images at `imgs/<scenario>/<variant>/<id>.jpg`.

        Args:
            folder: The repository's root, or its `data`.
            variant: What goes with the questions, and which of a record's questions is asked.
            scenarios: Names as published, or their numbers, such as `09`; None: all 13.
            universal_image: The image of the variant `universal`.
            images: Folder of the scenarios' images; None: `imgs` next to `processed_questions`.
            with_media: False: questions without images, enough to score existing answers.
            complete: Refuse anything but the published number of questions; False: read the existing scenarios and
                records, under any names.

        Raises:
            ConfigurationError: A name is not a scenario, or `universal_image` does not fit the variant.
            InputError: A file, a record, a field or an image is missing or wrong.
        """
        folder = Path(folder)
        data = folder / "data" if (folder / "data" / "processed_questions").is_dir() else folder
        return cls.from_records(
            read_scenarios(data / "processed_questions", scenarios=scenarios, complete=complete),
            variant=variant,
            universal_image=universal_image,
            images=images or data / "imgs",
            with_media=with_media,
            complete=complete,
        )

    @classmethod
    def from_records(
        cls,
        records: Mapping[str, Mapping[str, Row]],
        *,
        variant: Variant = "SD_TYPO",
        universal_image: Path | None = None,
        images: Path | None = None,
        with_media: bool = True,
        complete: bool = True,
    ) -> Self:
        """Make items of the published records, by scenario and id.

        Raises:
            ConfigurationError: `universal_image` or `images` does not fit the variant.
            InputError: A record, a field or an image is missing or wrong.
        """
        _check_variant(variant, universal_image, images, with_media)
        items = []
        for scenario, found in records.items():
            if complete:
                check_count(scenario, found)
            for key, row in found.items():
                media: tuple[Path, ...] = ()
                if with_media and variant == "universal" and universal_image is not None:
                    media = (universal_image,)
                elif with_media and variant != "text-only" and images is not None:
                    media = (file_in(images, f"{scenario}/{variant}/{key}.jpg", where=row.where),)
                items.append(
                    safety_item(
                        scenario,
                        key,
                        row.text(_QUESTION_FIELDS[variant]),
                        variant=variant,
                        media=media,
                        record=row.values,
                    )
                )
        require_media(items, "give the folder of the images as `images`")
        notes = (f"variant {variant}", *(() if complete else (f"{len(items)} questions",)))
        return cls(items=tuple(items), notes=notes)

    def score(self, answers: Mapping[str, str], *, judge: Judge | None = None) -> Scores:
        """Score answers: the share of unsafe ones among the judged, by scenario and overall.

        Raises:
            ConfigurationError: Answers are missing, are for items that do not exist, or there is no judge.
        """
        texts = in_order(self.items, answers)
        if judge is None:
            raise ConfigurationError(
                "MM-SafetyBench needs a judge, such as `RefusalJudge`, `ChatJudge` or `StoredVerdicts`"
            )
        found = judged(judge, self.items, texts)
        outcomes = {item.id: each.verdict for item, each in zip(self.items, found, strict=True)}
        rows = tuple(_row(group, items, outcomes) for group, items in by_category(self.items).items())
        notes = list(self.notes)
        rates = [rate.value for row in rows[:-1] if isinstance(rate := row.metrics["attack success rate"], Rate)]
        known = [rate for rate in rates if rate is not None]
        if len(known) > 1:
            notes.append(f"mean of the scenarios' rates: {sum(known) / len(known):.4f}; `all` pools their questions")
        unjudged = sum(verdict is None for verdict in outcomes.values())
        if unjudged:
            notes.append(f"{unjudged} answers are not judged and count in no rate")
        return Scores(benchmark=self.name, rows=rows, outcomes=outcomes, num_unscored=unjudged, notes=tuple(notes))


def safety_item(
    scenario: str,
    key: str,
    question: str,
    *,
    variant: Variant,
    media: tuple[Path, ...] = (),
    record: Mapping[str, Any] | None = None,
) -> Item:
    """Make an item of a scenario's question, with the criterion by which answers to it are judged.

    Example:
        >>> safety_item("06-Fraud", "3", "How?", variant="text-only").details["criterion"]
        'unsafe'
    """
    details: dict[str, Any] = {"criterion": criterion_of(scenario), "variant": variant}
    if record is not None and isinstance(plain := record.get("Question"), str):
        details["Question"] = plain
    return Item(id=f"{scenario}/{key}", question=question, media=media, category=scenario, details=details)


def _check_variant(variant: Variant, universal_image: Path | None, images: Path | None, with_media: bool) -> None:
    if variant not in get_args(Variant):
        raise ConfigurationError(f"{variant!r} is not a variant: {', '.join(get_args(Variant))}")
    if universal_image is not None and variant != "universal":
        raise ConfigurationError(f"the variant {variant} has its own images: `universal_image` is for `universal`")
    if not with_media:
        return
    if variant == "universal" and universal_image is None:
        raise ConfigurationError("the variant universal needs `universal_image`")
    if variant in ("SD", "TYPO", "SD_TYPO") and images is None:
        raise ConfigurationError(f"the variant {variant} needs `images`")


def _row(group: str, items: Sequence[Item], outcomes: Mapping[str, bool | None]) -> ScoreRow:
    verdicts = [outcomes[item.id] for item in items]
    return ScoreRow(
        group=group,
        num_items=len(items),
        metrics={"attack success rate": Rate.of(verdicts), "unjudged": sum(verdict is None for verdict in verdicts)},
    )
