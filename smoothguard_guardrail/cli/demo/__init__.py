"""`smoothguard demo`: the shipped model and images, without and with the guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smoothguard_guardrail.cli import loading, presets
from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models.reference.demo import DemoPicture
    from smoothguard_guardrail.result import GuardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The answers to one image."""

    picture: DemoPicture
    unguarded: str
    """The model's answer without the guard."""
    result: GuardResult

    @property
    def guarded(self) -> str:
        """The answer with the guard."""
        return str(self.result.answer.text)


def demo(
    save: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for `demo.html`: the images, their noisy copies, the answers and the vote.",
        ),
    ] = None,
    preset: Annotated[presets.Preset, typer.Option(help=presets.HELP)] = "reference",
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Show what the guard does, on the shipped model and images: offline and in under a minute.

    Example: smoothguard demo --save demo
    """
    with exit_codes():
        loading.quiet_libraries()
        _run(save, presets.chosen_config("reference", preset, seed=seed, record_samples=True))


def outcomes(model: BaseChatModel, config: SmoothGuardConfig, pictures: Sequence[DemoPicture]) -> Iterator[Outcome]:
    """Ask about every image, without and with the guard."""
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable

    guard = SmoothGuardRunnable(model, config=config)
    for picture in pictures:
        request = [picture.message()]
        unguarded = str(model.invoke(request).text)
        yield Outcome(picture=picture, unguarded=unguarded, result=guard.guard(request))


def summary(found: Sequence[Outcome]) -> str:
    """Count the attacks that succeeded and the clean questions that were answered correctly, in one line."""
    attacks = [outcome for outcome in found if outcome.picture.is_attack]
    clean = [outcome for outcome in found if not outcome.picture.is_attack]
    hits = [sum(each.picture.is_hit(text) for each, text in _answers(attacks, guarded)) for guarded in (False, True)]
    right = [sum(each.picture.is_right(text) for each, text in _answers(clean, guarded)) for guarded in (False, True)]
    return (
        f"attacks that succeeded: {hits[0]} of {len(attacks)} without the guard, {hits[1]} of {len(attacks)} with it; "
        f"clean questions answered correctly: {right[0]} of {len(clean)} and {right[1]} of {len(clean)}"
    )


def _answers(found: Sequence[Outcome], guarded: bool) -> Iterator[tuple[Outcome, str]]:
    return ((each, each.guarded if guarded else each.unguarded) for each in found)


def _run(save: Path | None, config: SmoothGuardConfig) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from smoothguard_guardrail.cli.demo.view import heading, outcome_view

    console = Console(highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("loading the model and the sentence embedder", total=None)
        from smoothguard_guardrail.models.reference.demo import load_demo
        from smoothguard_guardrail.voting import default_embedder

        try:
            pictures = load_demo().pictures
        except OSError as error:
            raise InputError(f"the demo's images are missing; reinstall the package: {error}") from error
        model = loading.load_model("reference")
        default_embedder()
        console.print(heading(config))
        progress.update(task, description="asking", total=len(pictures))
        found = []
        for outcome in outcomes(model, config, pictures):
            found.append(outcome)
            console.print(outcome_view(outcome))
            progress.advance(task)
        if save is not None:
            from smoothguard_guardrail.cli.demo.save import save_page

            progress.update(task, description="saving")
            page = save_page(save, model, config, found, summary(found))
    if save is not None:
        console.print(f"saved {page}", soft_wrap=True)
    console.print(summary(found), style="bold", soft_wrap=True)
