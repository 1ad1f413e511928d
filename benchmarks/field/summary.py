"""The image part of the field study in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.field.outcomes import Escalation, Outcomes
from smoothguard_guardrail.evaluation.report import Section
from smoothguard_guardrail.evaluation.statistics import Rate


def summary(
    outcomes: Mapping[tuple[str, str, str], Outcomes],
    adaptive: Mapping[tuple[str, int], Escalation],
    wording: Section,
    detection: Section,
) -> tuple[str, ...]:
    """Return the findings, including where the guard loses.

    Args:
        outcomes: By kind of image, attack and guard.
        adaptive: By guard and radius.
        wording: How the vote takes plain sentences.
        detection: On photos and cut-outs.
    """
    kinds, attacks, guards = (list(dict.fromkeys(column)) for column in zip(*outcomes, strict=True))
    return (
        f"**Images: what was measured.** A real classifier of photos, wrapped as a chat model that names one object in "
        f"a sentence. It is not a vision-language model, the images are few, and one image is several percent: read "
        f"the intervals. Two guards: {'; '.join(guards)}.",
        *(_known(kind, attacks, guards, outcomes) for kind in kinds),
        _adaptive(adaptive),
        _sentences(wording),
        _detection(detection),
    )


def description_summary(
    outcomes: Mapping[tuple[str, str, str], Outcomes], adaptive: Mapping[tuple[str, int], Escalation]
) -> str:
    """Return the findings on a language model that speaks of what the namer sees.

    Args:
        outcomes: By kind of image, attack and guard.
        adaptive: By guard and radius.
    """
    kinds, attacks, guards = (list(dict.fromkeys(column)) for column in zip(*outcomes, strict=True))
    known = " ".join(_known(kind, attacks, guards, outcomes) for kind in kinds)
    return f"**The same described by a language model**, SmolLM2-135M-Instruct. {known} {_adaptive(adaptive)}"


def _known(
    kind: str, attacks: Sequence[str], guards: Sequence[str], outcomes: Mapping[tuple[str, str, str], Outcomes]
) -> str:
    clean = outcomes[kind, "none", guards[0]]
    prices = "; ".join(
        f"guarded ({guard}) {_of(outcomes[kind, 'none', guard].guarded[0])}, "
        f"{outcomes[kind, 'none', guard].withheld.k} withheld"
        for guard in guards
    )
    attacked = " ".join(
        f"At {attack} the attacker's target was named on {_of(found.bare[1])} alone and "
        f"{found.guarded[1].k:g} guarded; the right name came back on {found.guarded[0].k:g}, and {found.withheld.k} "
        f"times the answer was withheld."
        for attack in attacks[1:]
        for found in [outcomes[kind, attack, guards[0]]]
    )
    return (
        f"**{kind.capitalize()}.** Without an attack the model names {_of(clean.bare[0])} right; {prices}. {attacked}"
    )


def _adaptive(adaptive: Mapping[tuple[str, int], Escalation]) -> str:
    lost = "; ".join(
        f"{guard}, {epsilon}/255: lost {_of(escalation.stages[-1].lost)}"
        for (guard, epsilon), escalation in adaptive.items()
    )
    ends = [escalation.stages[-1].lost for escalation in adaptive.values()]
    verdict = (
        ""
        if 2 * sum(rate.k for rate in ends) < sum(rate.n for rate in ends)
        else (" So noise that an unknown model can bear does not stop an attacker who knows of it.")
    )
    return (
        f"**Attackers who know the guard.** With at most {next(iter(adaptive.values())).stages[-1].gradients:,} "
        f"gradients for each photo: {lost}.{verdict}"
    )


def _sentences(wording: Section) -> str:
    rows = wording.tables[0].rows
    misread = {str(row[0]): sum(int(str(count)) for count in row[2:]) for row in rows}
    total = sum(int(str(count)) for count in rows[0][1:])
    worst = max(misread, key=lambda text: misread[text])
    return (
        f"**Plain sentences.** Of {total * len(rows):,} sentences that plainly name an object, the guard's classifier "
        f"took {sum(misread.values()):,} for unsure or refusing ones, most often those like *{worst}* "
        f"({misread[worst]} of {total})."
    )


def _detection(section: Section) -> str:
    rows = section.tables[0].rows
    most = max(int(str(row[1])) for row in rows)
    attacks = list(dict.fromkeys(str(row[2]) for row in rows))
    parts = []
    for attack in attacks:
        areas = {str(row[0]): str(row[3]) for row in rows if row[1] == most and row[2] == attack}
        found = next(row[6] for row in rows if row[:3] == ("suspicion", most, attack))
        others = ", ".join(f"{name} {area.split()[0]}" for name, area in areas.items() if name != "suspicion")
        parts.append(f"{attack}: ROC area {areas['suspicion']}, {_of(found)} found (areas of others: {others})")
    return (
        f"**Detection.** Suspicion after {most} calls, with at most 5 % false alarms on all clean photos and cut-outs: "
        f"{'; '.join(parts)}. An area below .5 means that attacked images look less suspicious than clean ones."
    )


def _of(rate: object) -> str:
    return f"{rate.k:g} of {rate.n}" if isinstance(rate, Rate) else str(rate)
