"""What `smoothguard attack` prints: its progress and its outcome."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from smoothguard_guardrail.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from smoothguard_guardrail.attacks import AttackProgress
    from smoothguard_guardrail.cli.attack.record import AttackRecord


@contextmanager
def progress_bar() -> Iterator[Callable[[AttackProgress], None]]:
    """Show step, loss and time left on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    text = TextColumn("loss {task.fields[loss]}, best {task.fields[best]}, {task.fields[left]} left")
    with Progress(
        TextColumn("step"), MofNCompleteColumn(), BarColumn(), text, console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("attack", total=None, loss="?", best="?", left="?")

        def show(now: AttackProgress) -> None:
            left = str(timedelta(seconds=round(now.eta_seconds)))
            loss, best = f"{now.mean_loss:.3f}", f"{now.best_loss:.3f}"
            bar.update(task, completed=now.step, total=now.num_steps, loss=loss, best=best, left=left)

        yield show


def save_plot(path: Path, record: AttackRecord) -> list[Path]:
    """Write the loss plot and return its path, or say on stderr what to install."""
    from smoothguard_guardrail.cli.attack.plot import save_loss_plot

    try:
        save_loss_plot(path, record)
    except MissingDependencyError as error:
        typer.echo(f"smoothguard: no loss plot: {error}", err=True)
        return []
    return [path]


def print_record(record: AttackRecord, files: Sequence[Path]) -> None:
    """Print the outcome of an attack."""
    if len(record.prompts) == 1:
        (prompt,) = record.prompts
        typer.echo(f"before:  {prompt.answer_before}")
        typer.echo(f"after:   {prompt.answer_after}")
        if prompt.guarded is not None:
            typer.echo(f"guarded: {prompt.guarded.answer}")
    typer.echo(f"{'reached' if record.settings.targeted else 'answer changed'}: {_reached(record)}")
    loss = record.loss
    typer.echo(f"loss: {loss.before:.3f} -> {loss.after:.3f}")
    if loss.through_guard_before is not None:
        typer.echo(f"loss through the guard: {loss.through_guard_before:.3f} -> {loss.through_guard_after:.3f}")
    typer.echo(f"change: {_change(record)}")
    typer.echo(f"files: {' '.join(map(str, files))}")


def _reached(record: AttackRecord) -> str:
    bare = f"{sum(prompt.reached for prompt in record.prompts)} of {len(record.prompts)}"
    guarded = [prompt.guarded for prompt in record.prompts if prompt.guarded is not None]
    if not guarded:
        return bare
    return f"{bare}; guarded {sum(each.reached for each in guarded)} of {len(guarded)}"


def _change(record: AttackRecord) -> str:
    change, epsilon = record.difference, record.settings.epsilon
    size = f"{change.levels}/255" if change.levels is not None else f"{change.linf:.4f}"
    kept = "no bound" if epsilon is None else "bound kept" if change.bound_kept else "BOUND BROKEN"
    return f"at most {size} per value, l2 {change.l2:.3f}; {kept}"
