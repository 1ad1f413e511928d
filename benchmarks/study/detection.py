"""How well suspicion and simpler scores tell attacked requests from honest ones, on the reference model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.detection import Signal, answers_differ, detection_section, embedding_distance, suspicion_score
from benchmarks.study.arenas import Fight
from benchmarks.study.measure import Study
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.items import Item
from smoothguard_guardrail.evaluation.report import Section

CALLS = (2, 3, 5, 8)
"""Model calls, that for the clean copy included."""
ATTACKS = {"transfer": "plain", "EOT": "adaptive", "against suspicion": "against suspicion"}
"""Attackers of the arena by name, and how the table calls them."""
JAILGUARD = 0.829


def reference_detection(study: Study, config: SmoothGuardConfig, secrets: Fight) -> Section:
    """Return the section: areas under ROC curves and alarms, at every number of calls."""
    tasks = study.tasks()
    honest = _texts(study, config, (*tasks.harmless, *tasks.authorised))
    attacked = {title: _texts(study, config, secrets.attacked(name)) for name, title in ATTACKS.items()}
    components = GuardComponents()
    signals = []
    for calls in CALLS:
        for name, score in (
            ("suspicion", lambda texts: suspicion_score(texts, config, components)),
            ("answers differ", answers_differ),
            ("distance of embeddings", embedding_distance),
        ):
            clean = {item: score(texts[:calls]) for item, texts in honest.items()}
            hostile = {
                attack: {item: score(texts[:calls]) for item, texts in found.items()}
                for attack, found in attacked.items()
            }
            signals.append(Signal(name=name, calls=calls, clean=clean, attacked=hostile))
    return detection_section(
        "Suspicion as a detector",
        (
            "A score is computed from the clean copy's answer and those of perturbed copies. Honest requests are the "
            "harmless and the authorised ones. *Plain* attacks do not know the guard, *adaptive* ones average over its "
            "noise, and those *against suspicion* also make the clean copy and the others answer alike. *Distance of "
            "embeddings* is the mean cosine distance between two answers.",
            f"JailGuard (arXiv 2312.10766), which also compares answers to changed copies, publishes an accuracy of "
            f"{JAILGUARD:.1%} on attacked images, on other models and against attacks that do not know it.",
        ),
        signals,
    )


def _texts(study: Study, config: SmoothGuardConfig, items: Sequence[Item]) -> Mapping[str, list[str]]:
    """Return the answers to the clean copy and to perturbed ones, by item."""
    copies = study.copies(config, items, num_copies=max(CALLS) - 1)
    return {record.item_id: [text or "" for text in (record.clean, *record.answers)] for record in copies}
