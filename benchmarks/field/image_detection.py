"""How well suspicion and simple baselines tell attacked images from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.detection import Scores, Signal, answers_differ, detection_section, embedding_distance, suspicion_score
from benchmarks.field.assistant import name_in
from benchmarks.field.outcomes import Escalation
from benchmarks.field.subjects import Bench, Subject
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.report import Section

CALLS = (2, 3, 5, 8)
"""The clean copy and 1, 2, 4 and 7 perturbed ones."""
DETECTED = (8, 16)
"""Radii in 255ths of the attacks, where the scale has them."""


def detection_sections(
    bench: Bench,
    everything: Sequence[Subject],
    right: Sequence[Subject],
    adaptive: Mapping[tuple[str, int], Escalation],
) -> list[Section]:
    """Report how well suspicion and simple baselines tell attacked images from others."""
    guard, config = next(iter(bench.guards.items()))
    sections = []
    for title, kinds in (("photos", {"photos"}), ("photos and cut-outs", {"photos", "cut-outs"})):
        attacked: dict[str, Sequence[Subject]] = {}
        for epsilon in [epsilon for epsilon in DETECTED if epsilon in bench.scale.epsilons]:
            attacked[f"plain {epsilon}/255"] = [bench.attacked(each, epsilon) for each in right if each.kind in kinds]
            attacked[f"adaptive {epsilon}/255"] = adaptive[guard, epsilon].subjects
        clean = [subject for subject in everything if subject.kind in kinds]
        sections.append(
            detection_section(
                f"Detection: {title}",
                (
                    f"Scores of the clean copy's answer and those of perturbed copies, {guard}. Clean are all {title}, "
                    f"also those that the model names wrong: users send such images too. *Plain* attacks were made on "
                    f"the model alone, *adaptive* ones through the guard's perturbation, on photos only; neither was "
                    f"made against these scores. *Embedding distance* is the mean cosine distance between two answers, "
                    f"which ranks requests as the standard deviation of their embeddings does. *Names differ* is the "
                    f"share of perturbed copies on which another object is named: it needs to know the names, and "
                    f"shows what suspicion loses by how it groups sentences.",
                ),
                signals(bench, config, clean, attacked),
            )
        )
    return sections


def signals(
    bench: Bench, config: SmoothGuardConfig, clean: Sequence[Subject], attacked: Mapping[str, Sequence[Subject]]
) -> list[Signal]:
    """Return suspicion and its baselines at every number of calls."""
    components = GuardComponents()
    scorers: dict[str, Callable[[Sequence[str]], float]] = {
        "suspicion": lambda texts: suspicion_score(texts, config, components),
        "answers differ": answers_differ,
        "embedding distance": embedding_distance,
        "names differ": lambda texts: names_differ(texts, bench.chat.names),
    }

    def scores(subjects: Sequence[Subject], calls: int, score: Callable[[Sequence[str]], float]) -> Scores:
        records = bench.ask(subjects, config)
        answers = [[text or "" for text in (each.clean, *each.answers[: calls - 1])] for each in records]
        return {subject.name: score(texts) for subject, texts in zip(subjects, answers, strict=True)}

    return [
        Signal(
            name=name,
            calls=calls,
            clean=scores(clean, calls, score),
            attacked={attack: scores(subjects, calls, score) for attack, subjects in attacked.items()},
        )
        for name, score in scorers.items()
        for calls in CALLS
    ]


def names_differ(texts: Sequence[str], names: Sequence[str]) -> float:
    """Return the share of the answers after the first that name another object, in [0, 1].

    Example:
        >>> names_differ(["This is a cat.", "A cat.", "A dog."], ["cat", "dog"])
        0.5
    """
    first, *others = (name_in(text, names) for text in texts)
    return sum(name != first for name in others) / len(others)
