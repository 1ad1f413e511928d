"""Choose the reference model's knobs: `python -m benchmarks.calibration`.

Two steps, on held-out pictures that `benchmarks.robustness` does not use. First the perturbation: for each candidate
an adaptive attack goes through it, and single perturbed copies are asked. Then the vote: the copies' answers are
recorded once and played back to the guard under every candidate rule. Prints both tables; `config.py` holds the choice.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from langchain_core.messages import AIMessage, HumanMessage

from benchmarks.arms import (
    Case,
    KeptEmbeddings,
    Rate,
    attacked,
    authorised_cases,
    fingerprint,
    forbidden_cases,
    harmless_cases,
    load_model,
    perturbation_name,
    request,
    right,
    told,
    untouched,
    worker_pool,
)
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.ballot import Judges
from smoothguard_guardrail.guard import CallModel, Guard, drive
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.perturbation import ModelFacts, image_perturber
from smoothguard_guardrail.smoothing import make_generator

SEED = 50_000  # benchmarks.robustness uses others
MAX_COPIES = 10

PERTURBATIONS: list[dict[str, Any]] = [
    {"sigma": 0.3},
    {"sigma": 0.2, "low_pass": 1.0, "max_shift": 4},
    {"sigma": 0.2, "low_pass": 1.0, "max_shift": 8},
    {"sigma": 0.25, "low_pass": 1.0, "max_shift": 6},
    {"sigma": 0.3, "low_pass": 1.0, "max_shift": 5},
    {"sigma": 0.3, "low_pass": 1.0, "max_shift": 6},
    {"sigma": 0.3, "low_pass": 1.0, "max_shift": 8},
    {"sigma": 0.2, "low_pass": 1.0, "max_shift": 6, "resize_range": (0.85, 1.15)},
]
VOTES: list[dict[str, Any]] = [
    {"num_samples": num_samples, "benign_weight": weight, "early_stop": stop, "distance_threshold": threshold}
    for num_samples in (8, 10)
    for weight in (0.0, 0.2, 0.35, 0.45)
    for stop in ("lossless", 0.01, 0.05)
    for threshold in (0.35, 0.5)
]

Answers = list[list[str]]


def ask_copies(
    model: ChatTransformersMultimodal,
    config: SmoothGuardConfig,
    cases: Sequence[Case],
    pictures: Sequence[torch.Tensor],
) -> Answers:
    """Return the answers to `MAX_COPIES` perturbed copies of every picture."""
    perturb = image_perturber(config, ModelFacts.of(model))
    answers = []
    for index, (case, picture) in enumerate(zip(cases, pictures, strict=True)):
        generator = make_generator(SEED, index)
        with torch.inference_mode():
            copies = perturb(picture.expand(MAX_COPIES, *picture.shape).clone(), generator=generator)
        question = {"type": "text", "text": case.asked.question}
        batch = [[HumanMessage(content=[{"type": "image", "image": copy}, question])] for copy in copies]
        answers.append([str(answer.content) for answer in model.generate_batch(batch)])
    return answers


def replay(guard: Guard, cases: Sequence[Case], answers: Answers) -> tuple[list[str], float]:
    """Return the guard's answers when the model says what was recorded, and the mean number of calls."""
    texts, calls = [], 0
    for case, recorded in zip(cases, answers, strict=True):

        def call(effect: CallModel, recorded: list[str] = recorded) -> list[AIMessage]:
            wave = recorded[effect.first_index : effect.first_index + len(effect.requests)]
            return [AIMessage(content=text) for text in wave]

        result = drive(guard.flow(request(case, case.pixels)), call)
        texts.append(str(result.answer.content))
        calls += result.num_calls
    return texts, calls / len(cases)


def copies_rate(rate: Any, cases: Sequence[Case], answers: Answers) -> float:
    """Return the mean of a rate over all copies."""
    rates: list[Rate] = [rate(cases, [row[copy] for row in answers]) for copy in range(MAX_COPIES)]
    return sum(each.k for each in rates) / sum(each.n for each in rates)


def main() -> None:
    """Read the command line and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=reference_path())
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--attacked", type=int, default=24)
    parser.add_argument("--epsilon", type=float, default=16)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--perturbations", type=int, nargs="*", help="indices to try; all by default")
    options = parser.parse_args()
    model, pool = load_model(str(options.model)), worker_pool()
    folder = Path("runs/calibration") / fingerprint(
        options.model / "model.safetensors", steps=options.steps, draws=options.draws, epsilon=options.epsilon
    )
    harmless = harmless_cases(options.pictures, seed=SEED)
    authorised = authorised_cases(options.pictures, seed=SEED)
    forbidden = forbidden_cases(options.attacked, seed=SEED)
    embedder = KeptEmbeddings()
    for index in options.perturbations or range(len(PERTURBATIONS)):
        knobs = PERTURBATIONS[index]
        config = SmoothGuardConfig(**knobs)
        arms = {"clean": untouched(harmless), "authorised": untouched(authorised)}
        for kind, defence in (("attacked", None), ("adaptive", config)):
            name = kind if defence is None else f"{kind}-{perturbation_name(defence)}"
            pictures = attacked(
                options.model,
                forbidden,
                folder / name,
                epsilon=options.epsilon / 255,
                num_steps=options.steps,
                config=defence,
                num_draws=options.draws,
                pool=pool,
            )
            arms[kind] = forbidden, pictures
        answers = {arm: ask_copies(model, config, *cases) for arm, cases in arms.items()}
        rate = {arm: copies_rate(right if arm == "clean" else told, arms[arm][0], answers[arm]) for arm in arms}
        print(f"\n{knobs}: single copies " + ", ".join(f"{arm} {share:.3f}" for arm, share in rate.items()), flush=True)
        for vote in VOTES:
            voting = config.override(**vote)
            guard = Guard(voting, judges=Judges(voting, embedder=embedder), facts=ModelFacts.of(model))
            cells, mean_calls = [], []
            for arm, (cases, _) in arms.items():
                texts, calls = replay(guard, cases, answers[arm])
                outcome = (right if arm == "clean" else told)(cases, texts)
                cells.append(f"{arm} {outcome.k}/{outcome.n}")
                mean_calls.append(calls)
            print(f"  {vote}: " + ", ".join(cells) + f", calls {sum(mean_calls) / len(mean_calls):.2f}", flush=True)


if __name__ == "__main__":
    main()
