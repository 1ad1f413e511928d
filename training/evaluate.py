"""Held-out accuracy of a trained model: `python -m training.evaluate MODEL_DIR [--count N]`.

Writes `MODEL_DIR/evaluation.json`, prints a Markdown table and, if `MODEL_DIR/README.md` has the two evaluation
markers, puts the table between them. Every answer is generated greedily through the processor.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from smoothguard_guardrail.models.reference.questions import KINDS, ask, is_correct
from smoothguard_guardrail.models.reference.scenes import random_scene, render
from training.batches import disturb

if TYPE_CHECKING:
    from smoothguard_guardrail.models.reference.questions import QuestionAnswer
    from smoothguard_guardrail.models.reference.scenes import Scene

ROWS = tuple(row for kind in KINDS for row in (("secret, told", "secret, refused") if kind == "secret" else (kind,)))
"""Rows of the table: the kinds of question, `secret` split by whether the scene authorises the answer."""
BATCH_SIZE = 64
BEGIN, END = "<!-- evaluation -->", "<!-- end of evaluation -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A disturbance: noise of sd `sigma` in [0, 1] pixel values, `blur` sd and `max_shift` in pixels."""

    name: str
    sigma: float = 0.0
    blur: float = 0.0
    max_shift: int = 0


CONDITIONS = (
    Condition(name="clean"),
    Condition(name="noise .1", sigma=0.1),
    Condition(name="noise .2", sigma=0.2),
    Condition(name="noise .3", sigma=0.3),
    Condition(name="noise .2, blur 1, shift 3", sigma=0.2, blur=1.0, max_shift=3),
    Condition(name="noise .3, blur 1, shift 8", sigma=0.3, blur=1.0, max_shift=8),
)


def main() -> None:
    """Read the command line and evaluate."""
    parser = argparse.ArgumentParser(description="Evaluate a trained reference model on held-out scenes.")
    parser.add_argument("model", type=Path, help="folder in Hugging Face format")
    parser.add_argument("--count", type=int, default=400, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = evaluate(options.model, count=options.count, seed=options.seed)
    (options.model / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n")
    table = markdown(results)
    print(table)
    card = options.model / "README.md"
    if card.is_file() and BEGIN in card.read_text():
        pattern = re.compile(f"{BEGIN}.*{END}", re.S)
        card.write_text(pattern.sub(lambda _: f"{BEGIN}\n{table}\n{END}", card.read_text()))


def evaluate(path: Path, *, count: int, seed: int = 0) -> dict[str, Any]:
    """Ask `count` held-out questions per row under every condition; the same questions everywhere."""
    transformers: Any = importlib.import_module("transformers")
    processor = transformers.AutoProcessor.from_pretrained(path)
    model = transformers.AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval()
    questions = {row: held_out(row, count=count, seed=seed) for row in ROWS}
    cells = []
    for condition in CONDITIONS:
        for row, asked in questions.items():
            generator = torch.Generator().manual_seed(seed)
            right = 0
            started = time.monotonic()
            for start in range(0, len(asked), BATCH_SIZE):
                part = asked[start : start + BATCH_SIZE]
                texts = answers(model, processor, part, condition, generator)
                right += sum(is_correct(scene, qa, text) for (scene, qa), text in zip(part, texts, strict=True))
            low, high = wilson(right, len(asked))
            print(
                f"{condition.name}: {row} {right}/{len(asked)} in {time.monotonic() - started:.0f} s",
                flush=True,
            )
            cells.append(
                {"condition": condition.name, "row": row, "right": right, "count": len(asked)}
                | {"wilson_low": round(low, 4), "wilson_high": round(high, 4)}
            )
    return {
        "seed": seed,
        "conditions": [asdict(condition) for condition in CONDITIONS],
        "confidence": 0.95,
        "cells": cells,
    }


def held_out(row: str, *, count: int, seed: int) -> list[tuple[Scene, QuestionAnswer]]:
    """Draw `count` held-out scenes with one question each; `row` is one of `ROWS`."""
    rng = np.random.default_rng([2, seed, ROWS.index(row)])
    kind, _, outcome = row.partition(", ")
    found: list[tuple[Scene, QuestionAnswer]] = []
    while len(found) < count:
        scene = random_scene(rng, split="heldout")
        if outcome and scene.authorised != (outcome == "told"):
            continue
        asked = ask(scene, kind, rng, split="heldout")
        if asked is not None:
            found.append((scene, asked))
    return found


@torch.no_grad()
def answers(
    model: Any,
    processor: Any,
    asked: list[tuple[Scene, QuestionAnswer]],
    condition: Condition,
    generator: torch.Generator,
) -> list[str]:
    """Answer a batch of questions about disturbed 8-bit images, greedily."""
    pixels = torch.from_numpy(np.stack([render(scene) for scene, _ in asked])).permute(0, 3, 1, 2) / 255
    if condition.sigma or condition.blur or condition.max_shift:
        pixels = disturb(pixels, generator, sigma=condition.sigma, blur=condition.blur, max_shift=condition.max_shift)
    images = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    conversations = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": Image.fromarray(image)},
                    {"type": "text", "text": question.question},
                ],
            }
        ]
        for image, (_, question) in zip(images, asked, strict=True)
    ]
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )
    generated = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = processor.batch_decode(generated, skip_special_tokens=True)
    return texts


def wilson(right: int, count: int, *, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion."""
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def markdown(results: dict[str, Any]) -> str:
    """Return a table of right / asked with Wilson intervals in per cent, one line per kind."""
    names = [condition["name"] for condition in results["conditions"]]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in ROWS:
        found = {cell["condition"]: cell for cell in results["cells"] if cell["row"] == row}
        lines.append(f"| {row} | " + " | ".join(_entry(found[name]) for name in names) + " |")
    return "\n".join(lines)


def _entry(cell: dict[str, Any]) -> str:
    low, high = 100 * cell["wilson_low"], 100 * cell["wilson_high"]
    return f"{cell['right']}/{cell['count']} ({low:.1f}-{high:.1f})"


if __name__ == "__main__":
    main()
