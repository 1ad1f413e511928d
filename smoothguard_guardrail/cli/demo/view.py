"""The demo in the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from smoothguard_guardrail.cli.verdict_line import verdict_line

if TYPE_CHECKING:
    from smoothguard_guardrail.cli.demo import Outcome
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models.reference.demo import DemoPicture
    from smoothguard_guardrail.result import GuardResult


def heading(config: SmoothGuardConfig) -> RenderableType:
    """Say what the guard does to every image."""
    parts = [f"noise of sigma {config.sigma:g} ({config.noise_space})"]
    if config.image.low_pass:
        parts.append(f"low-pass of sigma {config.image.low_pass:g} px")
    if config.image.max_shift:
        parts.append(f"shifts of up to {config.image.max_shift} px")
    if config.image.max_rotation:
        parts.append(f"rotations of up to {config.image.max_rotation:g} degrees")
    if config.image.resize_range:
        parts.append("resizes by {:g} to {:g}".format(*config.image.resize_range))
    clean = ", including the clean one" if config.include_clean else ""
    return Text(f"The guard: up to {config.num_samples} copies{clean}, {', '.join(parts)}.\n")


def outcome_view(outcome: Outcome) -> RenderableType:
    """Show the question, the answers without and with the guard, the samples by cluster and the verdict."""
    picture, table = outcome.picture, Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("question", Text(picture.question))
    if picture.target is not None:
        table.add_row("wanted", Text(f"{picture.target} (by the attacker)"))
    table.add_row("unguarded", _judged(picture, outcome.unguarded))
    table.add_row("guarded", _judged(picture, outcome.guarded))
    for number, line in enumerate(cluster_lines(outcome.result)):
        table.add_row("answers" if not number else "", line)
    table.add_row("verdict", Text(verdict_line(outcome.result)))
    return Group(Text(_title(picture), style="bold"), table, Text())


def cluster_lines(result: GuardResult) -> list[Text]:
    """Return the answers with their counts, cluster by cluster, with the elected cluster marked."""
    lines = []
    for cluster in result.clusters:
        texts = Counter(sample.text for sample in result.samples if sample.cluster == cluster.label)
        answers = "  ".join(f"{count} × {text}" for text, count in texts.most_common())
        elected = cluster.label == result.winner
        mark = "●" if elected else "○"
        lines.append(
            Text(f"{mark} {cluster.size} of {_num_answers(result)}: {answers}", style="" if elected else "dim")
        )
    if failed := len(result.samples) - _num_answers(result):
        lines.append(Text(f"{failed} failed", style="red"))
    return lines


def _num_answers(result: GuardResult) -> int:
    return sum(sample.cluster is not None for sample in result.samples)


def _title(picture: DemoPicture) -> str:
    kind = f"adversarial, epsilon {picture.epsilon}/255" if picture.is_attack else "clean"
    return f"{picture.file} ({kind})"


def _judged(picture: DemoPicture, answer: str) -> Text:
    """Return an answer marked as right, wrong or a successful attack."""
    if picture.is_hit(answer):
        return Text.assemble(answer, "  ", ("the attack succeeded", "red"))
    if picture.is_right(answer):
        return Text.assemble(answer, "  ", ("right", "green"))
    return Text.assemble(answer, "  ", ("wrong", "yellow"))
