"""The loss of an attack, step by step, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.cli.attack.record import AttackRecord


def save_loss_plot(path: Path, record: AttackRecord) -> None:
    """Draw the loss before each step, and what input and saved file have: all through the guard with `--eot`.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    _draw_history(axis, record)
    loss = record.loss
    measured = (loss.before, loss.after)
    if loss.through_guard_before is not None and loss.through_guard_after is not None:
        measured = (loss.through_guard_before, loss.through_guard_after)
    for value, style, word in zip(measured, (":", "--"), ("input", "saved file"), strict=True):
        axis.axhline(value, color="0.35", linestyle=style, linewidth=1, label=f"{word}: {value:.2f}")
    axis.set(xlabel="step", ylabel=_ylabel(record), title=_title(record))
    axis.title.set_fontsize(9)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def _draw_history(axis: Any, record: AttackRecord) -> None:
    history, settings = record.loss.history, record.settings
    over = ", mean of that step's prompts" if settings.method == "universal" else ""
    axis.plot(range(1, len(history) + 1), history, color="C0", label=f"before each step{over}")


def _ylabel(record: AttackRecord) -> str:
    return "loss of the " + ("target" if record.settings.targeted else "answer to avoid") + ", nats per token"


def _title(record: AttackRecord) -> str:
    settings = record.settings
    levels = 255 * (settings.epsilon or 0)
    whole = record.difference.levels is not None and settings.norm == "linf" and abs(levels - round(levels)) < 1e-6
    size = f"{round(levels)}/255" if whole else f"{settings.epsilon:.4g}" if settings.epsilon else ""
    bound = f"{settings.norm} {size}" if size else "no bound"
    through = " through the guard" if settings.through_guard else ""
    return f"{settings.method}{through}, {bound}, {settings.num_steps} steps, {record.model.spec}"
