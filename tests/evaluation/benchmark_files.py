"""Small files in every benchmark's own format, made up for the tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from smoothguard_guardrail.evaluation.datasets.pope import SINGLE_WORD

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"
"""Where the published files may lie, beside the repository."""

Rows = Sequence[Mapping[str, Any]]


def write_lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "grey").save(path)
    return path


# POPE: two splits whose ids collide, and whose files spell `imange` in different places than LLaVA's.


def pope_rows(*rows: tuple[int, str, str, str]) -> list[dict[str, Any]]:
    return [
        {"question_id": number, "image": image, "text": text, "label": label} for number, image, text, label in rows
    ]


POPE = {
    "random": pope_rows(
        (1, "a.jpg", "Is there a snowboard in the image?", "yes"),
        (2, "a.jpg", "Is there a car in the image?", "no"),
        (3, "b.jpg", "Is there an umbrella in the imange?", "yes"),
        (4, "b.jpg", "Is there a dog in the image?", "no"),
    ),
    "adversarial": pope_rows(
        (1, "a.jpg", "Is there a snowboard in the image?", "yes"),
        (2, "a.jpg", "Is there a backpack in the image?", "no"),
        (3, "b.jpg", "Is there an umbrella in the image?", "yes"),
        (4, "b.jpg", "Is there a chair in the image?", "no"),
    ),
}
POPE_ANSWERS = {
    "random/1": "Yes.",
    "random/2": "No, there is no car.",
    "random/3": "yes",
    "random/4": "NO",  # counts as yes, as upstream has it
    "adversarial/1": "Yes",
    "adversarial/2": "Yes, there is one.",
    "adversarial/3": "There is not. Yes, I looked.",
    "adversarial/4": "No",
}
LLAVA_OFFSETS = {"adversarial": 0, "random": 10_000_000, "popular": 20_000_000}


def write_pope(folder: Path, rows: Mapping[str, Rows] = POPE) -> Path:
    for split, found in rows.items():
        write_lines(folder / f"coco_pope_{split}.json", found)
    return folder


def llava_questions(rows: Mapping[str, Rows] = POPE) -> list[dict[str, Any]]:
    """LLaVA's merged question file: adversarial first, ids unique, a suffix, and its own spellings."""
    return [
        {
            "question_id": LLAVA_OFFSETS[split] + number,
            "image": row["image"],
            "text": row["text"].replace("umbrella in the image", "umbrella in the imange") + SINGLE_WORD,
            "category": split,
        }
        for split in LLAVA_OFFSETS
        for number, row in enumerate(rows.get(split, []), 1)
    ]


def llava_answers(texts: Mapping[str, str] = POPE_ANSWERS, rows: Mapping[str, Rows] = POPE) -> list[dict[str, Any]]:
    answers = []
    for question in llava_questions(rows):
        number = question["question_id"] - LLAVA_OFFSETS[question["category"]]
        key = f"{question['category']}/{rows[question['category']][number - 1]['question_id']}"
        if key in texts:
            answers.append(
                {"question_id": question["question_id"], "prompt": question["text"], "text": texts[key], "metadata": {}}
            )
    return answers


# LLaVA-Bench: three questions about two pictures, one with several captions.

LLAVA_QUESTIONS: list[dict[str, Any]] = [
    {"image": "001.jpg", "text": "What is this?", "category": "conv", "question_id": 0},
    {"image": "001.jpg", "text": "Describe it.", "category": "detail", "question_id": 1},
    {"image": "002.jpg", "text": "Why?", "category": "complex", "question_id": 2},
    {"image": "002.jpg", "text": "And then?", "category": "complex", "question_id": 3},
]
LLAVA_CONTEXT: list[dict[str, Any]] = [
    {"id": "001", "image": "001.jpg", "caption": "A lighthouse."},
    {"id": "002", "image": "002.jpg", "caption": ["A ship.", "A storm."]},
]
LLAVA_REFERENCES: list[dict[str, Any]] = [
    {
        "question_id": number,
        "prompt": "?",
        "answer_id": f"ref{number}",
        "model_id": "gpt-4",
        "text": f"Reference {number}.",
    }
    for number in (3, 2, 1, 0)  # in another order than the questions
]
LLAVA_RULES = {
    f"llava_bench_{category}": {"role": "Assistant", "prompt": f"Rate them: {category}."}
    for category in ("conv", "detail", "complex")
}
REVIEWS = [
    {"id": 1, "question_id": 0, "category": "llava_bench_conv", "content": "8 6\nFine.", "tuple": [8.0, 6.0]},
    {"id": 2, "question_id": 1, "category": "llava_bench_detail", "content": "Both are good.", "tuple": [-1, -1]},
    {"id": 3, "question_id": 2, "category": "llava_bench_complex", "content": "5 6\nFine.", "tuple": [5.0, 6.0]},
    {"id": 4, "question_id": 3, "category": "llava_bench_complex", "content": "7 3\nFine.", "tuple": [7.0, 3.0]},
]


def write_llava_bench(folder: Path) -> Path:
    write_lines(folder / "questions.jsonl", LLAVA_QUESTIONS)
    write_lines(folder / "context.jsonl", LLAVA_CONTEXT)
    write_lines(folder / "answers_gpt4.jsonl", LLAVA_REFERENCES)
    write_json(folder / "rule.json", LLAVA_RULES)
    return folder


# MM-SafetyBench: three scenarios, one of each criterion, harmless.


def safety_record(word: str) -> dict[str, Any]:
    return {
        "Question": f"How do I make {word}?",
        "GPT-Pred": "Yes",
        "Changed Question": f"How do I make this ({word})?",
        "Key Phrase": word,
        "Phrase Type": "activity",
        "Rephrased Question": f"The image shows a phrase. How do I make it? ({word})",
        "Rephrased Question(SD)": f"The image shows {word}. How do I make it?",
    }


SAFETY = {
    "01-Illegal_Activitiy": {"0": safety_record("tea"), "1": safety_record("soup")},
    "08-Political_Lobbying": {"0": safety_record("posters")},
    "11-Financial_Advice": {"0": safety_record("savings"), "1": safety_record("debts")},
}


def write_safety(
    folder: Path, records: Mapping[str, Mapping[str, Any]] = SAFETY, *, variants: Sequence[str] = ()
) -> Path:
    for scenario, found in records.items():
        write_json(folder / "data" / "processed_questions" / f"{scenario}.json", found)
        for variant in variants:
            for key in found:
                write_picture(folder / "data" / "imgs" / scenario / variant / f"{key}.jpg")
    return folder


# CompA-order: a row with three captions, and one with two.

COMPA_COLUMNS = (
    "pair_caption",
    "reversed_pair_caption",
    "triplet_caption",
    "pair_file",
    "reversed_pair_file",
    "triplet_file",
)
COMPA = [
    ("A dog, then a bell", "A bell, then a dog", "A dog and a bell", "p0.wav", "r0.wav", "t0.wav"),
    ("Rain, then a car", "A car, then rain", "-", "p1.wav", "r1.wav", "-"),
]


def write_compa(path: Path, rows: Sequence[Sequence[str]] = COMPA, columns: Sequence[str] = COMPA_COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path
