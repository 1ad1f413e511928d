"""What `smoothguard calibrate` prints: a table of the candidates, the choice, the files and the next command."""

from __future__ import annotations

import shlex
import textwrap
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.evaluation.calibration.reporting import summary, varying_settings
from smoothguard_guardrail.evaluation.calibration.results import HARMLESS, upper_end

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from smoothguard_guardrail.evaluation.calibration import Calibration, Measured

WIDTH = 80
"""Columns of a terminal that the table and the sentences fit."""
_SHORT = {
    "sigma": "sigma",
    "image.max_shift": "shift",
    "image.low_pass": "low-p",
    "audio.snr_db": "SNR",
    "vote.refusal_share": "share",
    "num_samples": "n",
}
"""Headings of the settings that candidates vary."""
_MEANINGS = {
    "num_samples": "n: samples",
    "image.low_pass": "low-p: low-pass in px",
    "vote.refusal_share": "share: of refusals that wins",
}


def lines(found: Calibration, out: Path, model: str) -> list[str]:
    """Return the lines to print; commands and paths are never broken, all else fits 80 columns."""
    texts = [line.replace("**", "") for line in summary(found)]
    if found.chosen is not None:
        texts[1:1] = found.choice.reasons
    wrapped = [line for text in texts for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False)]
    return [*candidate_lines(found), "", *wrapped, "", *_next_lines(found, out, model)]


def candidate_lines(found: Calibration) -> list[str]:
    """Return a table of the candidates, and what its columns are."""
    robustness, settings = found.choice.robustness, varying_settings(found.candidates) or ["sigma"]
    arm = None if robustness == "not measured" else robustness
    headings = [
        "",
        *(_SHORT[name] for name in settings),
        "right",
        "loss",
        "max",
        *([arm, "max"] if arm else []),
        "calls",
    ]
    rows = [
        [_mark(found, index), *(f"{attrgetter(name)(each.config):g}" for name in settings), *_figures(each, arm)]
        for index, each in enumerate(found.candidates)
    ]
    return [*_aligned([headings, *rows]), *textwrap.wrap(_legend(found, arm, settings), WIDTH)]


def _mark(found: Calibration, index: int) -> str:
    return ("*" if index == found.choice.index else "") + ("+" if index in found.choice.frontier else "")


def _figures(each: Measured, arm: str | None) -> list[str]:
    success = [] if arm is None else [_share(each.rates[arm].value), _share(upper_end(each.rates[arm]))]
    loss = [f"{each.utility_loss:+.3f}", _share(each.loss_bound)]
    return [_share(each.rates[HARMLESS].value), *loss, *success, f"{each.mean_calls:.1f}"]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    return [
        (" " * gap).join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _legend(found: Calibration, arm: str | None, settings: Sequence[str]) -> str:
    first = found.candidates[0]
    parts = [f"{first.rates[HARMLESS].n} harmless rows"]
    if arm is not None:
        parts.append(f"{arm}: share of {first.rates[arm].n} rows on which the attacker succeeds")
    parts.append("max: upper end of the 95 % interval")
    parts += [text for name, text in _MEANINGS.items() if name in settings]
    if found.choice.index is not None:
        parts.append("*: chosen")
    if found.choice.frontier:
        parts.append("+: on the frontier")
    return "; ".join(parts) + "."


def _next_lines(found: Calibration, out: Path, model: str) -> list[str]:
    written = ["report.html", "calibration.json"]
    if found.chosen is None:
        return [f"wrote {out / name}" for name in written]
    config = out / "guard.json"
    options: list[Any] = ["--model", model, "--config", config]
    medium = "AUDIO" if found.kinds == ("audio",) else "IMAGE"
    return [
        *(f"wrote {out / name}" for name in (*written, "guard.json")),
        "next:",
        f'  smoothguard ask {medium} "QUESTION" {shlex.join(map(str, options))}',
        f"  smoothguard serve {shlex.join(map(str, options))}",
    ]
