"""`smoothguard demo`: the shipped model and pictures, alone and behind the guard."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models.reference.demo import DemoPicture
    from smoothguard_guardrail.result import GuardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one picture."""

    picture: DemoPicture
    alone: str
    """The model's answer to the picture as it is."""
    result: GuardResult

    @property
    def guarded(self) -> str:
        """The guard's answer."""
        return str(self.result.answer.text)


def demo(
    save: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the pictures, their noisy copies and a figure of the answers."),
    ] = None,
    preset: Annotated[presets.Preset, typer.Option(help=presets.HELP)] = "reference",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Show what the guard does, on the shipped model and pictures: offline and in under a minute."""
    with exit_codes():
        if save is not None and importlib.util.find_spec("matplotlib") is None:
            raise MissingDependencyError("matplotlib", "plots")
        loading.quiet_libraries()
        _run(save, presets.chosen_config("reference", preset, seed=seed, record_samples=True))


def outcomes(model: BaseChatModel, config: SmoothGuardConfig, pictures: Sequence[DemoPicture]) -> Iterator[Outcome]:
    """Ask about every picture, alone and behind the guard."""
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

    guard = SmoothGuardRunnable(model, config=config)
    for picture in pictures:
        request = [picture.message()]
        alone = str(model.invoke(request).text)
        yield Outcome(picture=picture, alone=alone, result=guard.guard(request))


def summary(found: Sequence[Outcome]) -> str:
    """Count in one line the attacks that succeeded and the clean questions that were answered rightly."""
    attacks = [outcome for outcome in found if outcome.picture.is_attack]
    clean = [outcome for outcome in found if not outcome.picture.is_attack]
    hits = [sum(each.picture.is_hit(text) for each, text in _said(attacks, guarded)) for guarded in (False, True)]
    right = [sum(each.picture.is_right(text) for each, text in _said(clean, guarded)) for guarded in (False, True)]
    return (
        f"attacks that succeeded: {hits[0]} of {len(attacks)} without the guard, {hits[1]} of {len(attacks)} with it; "
        f"clean questions answered rightly: {right[0]} of {len(clean)} and {right[1]} of {len(clean)}"
    )


def _said(found: Sequence[Outcome], guarded: bool) -> Iterator[tuple[Outcome, str]]:
    return ((each, each.guarded if guarded else each.alone) for each in found)


def _run(save: Path | None, config: SmoothGuardConfig) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from smoothguard_guardrail.cli.demo_view import heading, view

    console = Console(highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model and the sentence embedder", total=None)
        from smoothguard_guardrail.models.reference.demo import load_demo
        from smoothguard_guardrail.voting import default_embedder

        try:
            pictures = load_demo().pictures
        except OSError as error:
            raise InputError(f"the demonstration's pictures are missing from the installation: {error}") from error
        model = loading.load_model("reference")
        default_embedder()
        console.print(heading(config))
        progress.update(task, description="asking", total=len(pictures))
        found = []
        for outcome in outcomes(model, config, pictures):
            found.append(outcome)
            console.print(view(outcome))
            progress.advance(task)
        if save is not None:
            from smoothguard_guardrail.cli.demo_save import save_all

            progress.update(task, description="saving")
            save_all(save, model, config, found)
    if save is not None:
        console.print(f"pictures and clusters.png are in {save}")
    console.print(summary(found), style="bold", soft_wrap=True)
