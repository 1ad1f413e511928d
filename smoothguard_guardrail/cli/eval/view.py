"""A benchmark's scores on the terminal."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import typer

from smoothguard_guardrail.cli.failures import printable
from smoothguard_guardrail.evaluation.statistics import Rate

if TYPE_CHECKING:
    from rich.table import Table

    from smoothguard_guardrail.evaluation.scores import Scores

_WIDTH = 110
"""Columns of output to a file."""


def print_scores(scores: Scores, *, as_json: bool) -> None:
    """Print scores as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps(scores.model_dump(mode="json"), ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH
    console.print(scores_table(scores))
    for note in scores.notes:
        console.print(f"- {printable(note)}", soft_wrap=True)


def scores_table(scores: Scores) -> Table:
    """Return a table with one line per group and figure; rates as k/n, with their Wilson interval."""
    from rich import box
    from rich.table import Table

    table = Table(title=scores.benchmark, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("group", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("figure")
    for heading in ("k/n", "value", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in scores.rows:
        for number, (name, value) in enumerate(row.metrics.items()):
            group = (printable(row.group), f"{row.num_items:,}") if number == 0 else ("", "")
            last = number == len(row.metrics) - 1
            table.add_row(*group, name, *_cells(value), end_section=last)
    return table


def _cells(value: Rate | float | int | None) -> tuple[str, str, str]:
    if isinstance(value, Rate):
        interval = value.interval()
        if interval is None:
            return value.count, "-", "-"
        return value.count, f"{value.value:.4f}", f"{interval[0]:.3f}-{interval[1]:.3f}"
    if value is None:
        return "", "-", ""
    return "", f"{value:,}" if isinstance(value, int) else f"{value:.4f}", ""
