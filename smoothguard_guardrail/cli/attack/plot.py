"""The loss of an attack, step by step, as an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.evaluation.report.plots import drawing_style, new_figure

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.cli.attack.record import AttackRecord


def save_loss_plot(path: Path, record: AttackRecord) -> None:
    """Plot the loss before each step, and that of the input and of the saved file; with `--eot`, through the guard.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    loss = record.loss
    levels = [loss.before, loss.after]
    if loss.through_guard_before is not None and loss.through_guard_after is not None:
        levels = [loss.through_guard_before, loss.through_guard_after]
    over = ", mean of that step's prompts" if record.settings.method == "universal" else ""
    with drawing_style():
        figure = new_figure(504, 288, layout="constrained")
        axes = figure.subplots()
        axes.plot(range(1, len(loss.history) + 1), loss.history, color="C0", label=f"before each step{over}")
        for value, style, name in zip(levels, (":", "--"), ("input", "saved file"), strict=True):
            axes.axhline(value, color="0.35", linestyle=style, linewidth=1, label=f"{name}: {value:.2f}")
        axes.set_title(_title(record), fontsize=9)
        axes.set(xlabel="step", ylabel=_ylabel(record))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
        figure.savefig(path, dpi=120)


def _ylabel(record: AttackRecord) -> str:
    return f"loss of the {'target' if record.settings.targeted else 'answer to avoid'}, nats per token"


def _title(record: AttackRecord) -> str:
    settings = record.settings
    levels = 255 * (settings.epsilon or 0)
    in_levels = record.difference.levels is not None and settings.norm == "linf" and abs(levels - round(levels)) < 1e-6
    size = f"{round(levels)}/255" if in_levels else f"{settings.epsilon:.4g}" if settings.epsilon else ""
    bound = f"{settings.norm} {size}" if size else "no bound"
    through = " through the guard" if settings.through_guard else ""
    return f"{settings.method}{through}, {bound}, {settings.num_steps} steps, {record.model.spec}"
