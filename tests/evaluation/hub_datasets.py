"""The small benchmarks of `benchmark_files` as datasets of the package `datasets`, in the forms that folders have."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from tests.evaluation.benchmark_files import LLAVA_CONTEXT, LLAVA_QUESTIONS, LLAVA_REFERENCES, POPE, SAFETY

IMAGE = {"image": datasets.Image()}
POPE_COLUMNS = ("id", "question_id", "question", "answer", "image_source", "category")
LLAVA_COLUMNS = ("question", "caption", "gpt_answer", "category", "image_id")
SPLIT_FIELDS = {"SD": "Rephrased Question(SD)", "SD_TYPO": "Rephrased Question", "TYPO": "Rephrased Question"}


def picture(seed: int, kind: str = "JPEG") -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).rotate(17 * seed).save(data, kind)
    return data.getvalue()


PICTURES = {"a.jpg": picture(1), "b.jpg": picture(2), "001.jpg": picture(3), "002.jpg": picture(4, "PNG")}


def write_pictures(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(PICTURES[name])
    return folder


def dataset(columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Any:
    return datasets.Dataset.from_list(rows, features=datasets.Features(columns))


def strings(names: Iterable[str]) -> dict[str, Any]:
    return {name: datasets.Value("string") for name in names}


def as_saved_splits(folder: Path, columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], split: str) -> Path:
    datasets.DatasetDict({split: dataset(columns, rows)}).save_to_disk(folder)
    return folder


def as_saved_dataset(folder: Path, columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], split: str) -> Path:
    dataset(columns, rows).save_to_disk(folder)
    return folder


def as_repository(folder: Path, columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], split: str) -> Path:
    data = dataset(columns, rows)
    (folder / "data").mkdir(parents=True)
    for number in range(2):
        data.shard(2, number, contiguous=True).to_parquet(folder / "data" / f"{split}-0000{number}-of-00002.parquet")
    return folder


FORMS = [as_saved_splits, as_saved_dataset, as_repository]


def pope_records() -> list[dict[str, Any]]:
    rows = [(split, row) for split in ("random", "adversarial") for row in POPE[split]]
    return [
        {
            "id": str(number),
            "question_id": str(row["question_id"]),
            "question": row["text"],
            "answer": row["label"],
            "image_source": row["image"].removesuffix(".jpg"),
            "image": {"bytes": PICTURES[row["image"]], "path": None},
            "category": split,
        }
        for number, (split, row) in enumerate(rows)
    ]


def pope_dataset(folder: Path, rows: Sequence[Mapping[str, Any]], form: Any = as_saved_dataset) -> Path:
    path: Path = form(folder, strings(POPE_COLUMNS) | IMAGE, rows, "test")
    return path


def llava_records() -> list[dict[str, Any]]:
    captions = {row["image"]: row["caption"] for row in LLAVA_CONTEXT}
    references = {row["question_id"]: row["text"] for row in LLAVA_REFERENCES}
    return [
        {
            "question_id": row["question_id"],
            "question": row["text"],
            "image": {"bytes": PICTURES[row["image"]], "path": row["image"]},
            "caption": "\n".join(each) if isinstance(each := captions[row["image"]], list) else each,
            "gpt_answer": references[row["question_id"]],
            "category": row["category"],
            "image_id": row["image"],
        }
        for row in LLAVA_QUESTIONS
    ]


LLAVA_FEATURES = strings(LLAVA_COLUMNS) | {"question_id": datasets.Value("int8")} | IMAGE


def safety_picture(scenario: str, key: str, split: str) -> bytes:
    return picture(len(scenario) + 3 * int(key) + len(split))


def safety_splits(scenario: str) -> dict[str, list[dict[str, Any]]]:
    records = SAFETY[scenario]
    splits: dict[str, list[dict[str, Any]]] = {
        "Text_only": [{"id": key, "question": record["Question"], "image": None} for key, record in records.items()]
    }
    for split, field in SPLIT_FIELDS.items():
        splits[split] = [
            {
                "id": key,
                "question": record[field],
                "image": {"bytes": safety_picture(scenario, key, split), "path": None},
            }
            for key, record in records.items()
        ]
    return splits


SAFETY_FEATURES = strings(("id", "question")) | IMAGE


def safety_saved(folder: Path) -> Path:
    for scenario in SAFETY:
        splits = {split: dataset(SAFETY_FEATURES, rows) for split, rows in safety_splits(scenario).items()}
        datasets.DatasetDict(splits).save_to_disk(folder / scenario.partition("-")[2])
    return folder


def safety_repository(folder: Path) -> Path:
    for scenario in SAFETY:
        place = folder / "data" / scenario.partition("-")[2]
        place.mkdir(parents=True)
        for split, rows in safety_splits(scenario).items():
            dataset(SAFETY_FEATURES, rows).to_parquet(place / f"{split}.parquet")
    return folder
