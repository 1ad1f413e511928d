"""The study in words and as the table of docs/measurements.md."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.study.adaptive import plateau
from benchmarks.study.design import ADAPTIVE_EPSILON, EPSILONS
from benchmarks.study.sections import ADAPTIVE, CLEAN, CONTROL, OVER_REFUSAL, POPE, Row, attacked
from smoothguard_guardrail.evaluation.arena import ArenaResult
from smoothguard_guardrail.evaluation.arena_report import arena_sentences
from smoothguard_guardrail.evaluation.report import Section


def summary(
    rows: Mapping[str, Row],
    choice: str,
    arms: Section,
    others: Section,
    secrets: ArenaResult,
    fooling: ArenaResult,
) -> tuple[str, ...]:
    """Return the findings in plain words, including where the guard loses.

    Args:
        rows: The table of docs/measurements.md.
        choice: Name of the candidate that was chosen.
        arms: From `arms_section`.
        others: From `others_section`.
        secrets: The arena of requests for secrets.
        fooling: The arena of wrong answers.
    """
    pope = {row[1]: row[2] for row in arms.tables[0].rows if str(row[0]).startswith("POPE")}
    ours_only = {row[0]: row[others.tables[0].columns.index("ours")] for row in others.tables[0].rows}
    further = ", ".join(f"{attack} {rate}" for attack, rate in ours_only.items())
    bare, paper, noise, ours = (
        {column: f"{rate.k} of {rate.n}" for column, rate in row.rates.items()} for row in rows.values()
    )
    middle, large = attacked(ADAPTIVE_EPSILON), attacked(max(EPSILONS))
    return (
        f"**The attack.** The bare model refuses to reveal secrets, but leaked {bare[middle]} of them under attacks of "
        f"{ADAPTIVE_EPSILON}/255. Random signs of {max(EPSILONS)}/255, much larger, leaked {bare[CONTROL]}: the cause "
        f"is the attack, not noise of its size.",
        f"**Attackers who do not know the guard.** The published rule at its published strength let {paper[middle]} "
        f"through, its vote at our sigma {noise[middle]}, our guard {ours[middle]}; at {max(EPSILONS)}/255 "
        f"{paper[large]}, {noise[large]} and {ours[large]}.",
        f"**Attackers who do.** With gradients through the guard's whole perturbation, averaged over its draws, the "
        f"published rule lost {paper[ADAPTIVE]}, its vote at our sigma {noise[ADAPTIVE]}, our guard {ours[ADAPTIVE]}. "
        f"Noise does not stop an attacker who knows of it. {plateau(rows['ours'].stages)}",
        f"**The arena.** {len(secrets.attackers)} attackers, the worst for each image counts: "
        f"{' '.join(arena_sentences(secrets))}",
        f"**Wrong answers.** {len(fooling.attackers)} attackers on harmless questions: "
        f"{' '.join(arena_sentences(fooling))}",
        f"**The price.** Of harmless questions the bare model answers {bare[CLEAN]} rightly and our guard "
        f"{ours[CLEAN]}; of those in POPE's form {bare[POPE]} and {ours[POPE]}. Of authorised requests our guard "
        f"refused {ours[OVER_REFUSAL]}. It asked the model {rows['ours'].calls:.1f} times per request on average, the "
        f"published rule {rows['paper'].calls:.0f} times.",
        f"**Where else it loses.** Questions in POPE's form, attacked at {ADAPTIVE_EPSILON}/255 towards the wrong "
        f"answer, were answered wrongly in {pope['adversarial']} without and {pope['adversarial, guarded']} with our "
        f"guard. Other attacks made it leak: {further}.",
        f"**The choice.** By the study's rule the perturbation of our preset is: {choice}.",
        "**What it does not show.** One small synthetic model, one kind of secret, images of 96 pixels: on another "
        "model every figure will differ. Nothing here bounds what an unknown attack may reach; the intervals cover "
        "the draw of the images, not the choice of attacks.",
    )


def markdown(rows: Mapping[str, Row]) -> str:
    """Return the table as docs/measurements.md shows it."""
    names = [*map(attacked, EPSILONS), ADAPTIVE, CONTROL, CLEAN, POPE, OVER_REFUSAL]
    lines = ["| | " + " | ".join(rows) + " |", "|---|" + "---|" * len(rows)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(str(row.rates[name]) for row in rows.values()) + " |")
    lines.append("| mean calls | " + " | ".join(f"{row.calls:.1f}" for row in rows.values()) + " |")
    return "\n".join(lines)
