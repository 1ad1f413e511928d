"""The demo as files: images, the attack's changes, noisy copies as the model saw them, and a plot of the answers."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.evaluation.report import project_answers
from smoothguard_guardrail.evaluation.report.plots import drawing_style, new_figure
from smoothguard_guardrail.media import prepare
from smoothguard_guardrail.models.reference.demo import DEMO_DIR
from smoothguard_guardrail.voting import default_embedder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel
    from numpy.typing import NDArray

    from smoothguard_guardrail.cli.demo import Outcome
    from smoothguard_guardrail.config import SmoothGuardConfig

NUM_COPIES = 3
ENLARGEMENT = 3
"""Factor by which every pixel of a saved image is repeated."""
AMPLIFICATION = 4
"""Factor by which the attack's change is multiplied, around middle grey."""


def save_outcomes(folder: Path, model: BaseChatModel, config: SmoothGuardConfig, found: Sequence[Outcome]) -> None:
    """Write a folder of images per outcome, and `clusters.png`."""
    for outcome in found:
        _save_images(folder / outcome.picture.name, model, config, outcome)
    save_clusters(folder / "clusters.png", found)


def save_clusters(path: Path, found: Sequence[Outcome]) -> None:
    """Plot the answers to every image on the first two principal components of all answers' embeddings.

    A disc is one wording: its area shows the number of answers, its colour the cluster; the elected cluster has a rim.
    A cross is the answer without the guard.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    positions = _positions(found)
    rows, columns = math.ceil(len(found) / 2), 2
    with drawing_style():
        figure = new_figure(792, 187 * rows, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(found) :]:
            axes.set_axis_off()
        for axes, outcome in zip(grid.flat, found, strict=False):
            _draw_answers(axes, outcome, positions)
        figure.savefig(path, dpi=110)


def _save_images(folder: Path, model: BaseChatModel, config: SmoothGuardConfig, outcome: Outcome) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shown = _read(outcome.picture.file)
    if outcome.picture.original is None:
        _write(folder / "original.png", shown)
    else:
        original = _read(outcome.picture.original)
        _write(folder / "original.png", original)
        _write(folder / "adversarial.png", shown)
        _write(folder / "difference.png", 0.5 + AMPLIFICATION * (shown - original))
    for number, copy in enumerate(_noisy_copies(model, config, outcome), start=1):
        _write(folder / f"noisy_{number}.png", copy)


def _noisy_copies(model: BaseChatModel, config: SmoothGuardConfig, outcome: Outcome) -> list[NDArray[np.float64]]:
    """Return noisy copies that the guard made for this request, as (height, width, 3) in [0, 1]."""
    prepared = prepare([outcome.picture.message()], config.media.override(on_unsupported="error"))
    seed = outcome.result.seed or 0
    perturber = RequestPerturber(prepared, config=config, model_info=ModelInfo.find(model), seed=seed)
    requests = perturber.render(0, NUM_COPIES + config.include_clean)
    blocks: list[Any] = [request[0].content[0] for request in requests[int(config.include_clean) :]]
    return [np.asarray(block["image"].permute(1, 2, 0), dtype=np.float64) for block in blocks]


def _positions(found: Sequence[Outcome]) -> dict[str, NDArray[np.float64]]:
    """Return the position of each wording."""
    texts = [sample.text for outcome in found for sample in outcome.result.samples if sample.text is not None]
    texts = list(dict.fromkeys([*texts, *(outcome.unguarded for outcome in found)]))
    return dict(zip(texts, project_answers(texts, default_embedder()), strict=True))


def _draw_answers(axes: Any, outcome: Outcome, positions: dict[str, NDArray[np.float64]]) -> None:
    result = outcome.result
    wordings = Counter((sample.text, sample.cluster) for sample in result.samples if sample.text is not None)
    for (text, cluster), count in wordings.most_common():
        rim = "black" if cluster == result.winner else "none"
        axes.scatter(
            *positions[text], s=60 * count, c=f"C{cluster}", edgecolors=rim, alpha=0.8, label=f"{count} × {text}"
        )
    axes.scatter(*positions[outcome.unguarded], marker="x", c="black", label=f"without the guard: {outcome.unguarded}")
    legend = axes.legend(fontsize=7, loc="best", frameon=False)
    for handle in legend.legend_handles:
        handle.set_sizes([25])
    axes.set_title(f"{outcome.picture.name}: {outcome.picture.question}", fontsize=8)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.15)


def _read(file: str) -> NDArray[np.float64]:
    with Image.open(DEMO_DIR / file) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def _write(path: Path, pixels: NDArray[np.float64]) -> None:
    levels = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
    Image.fromarray(levels.repeat(ENLARGEMENT, axis=0).repeat(ENLARGEMENT, axis=1)).save(path)
