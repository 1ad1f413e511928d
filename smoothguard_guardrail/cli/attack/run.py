"""Carries an attack out: builds it, runs it, writes what it found, and measures that from the file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from smoothguard_guardrail.cli.attack.answers import answers_to_file, answers_to_medium, guarded_results, holds
from smoothguard_guardrail.cli.attack.losses import Meter
from smoothguard_guardrail.cli.attack.media import as_met, read_medium, write_medium
from smoothguard_guardrail.cli.attack.record import (
    AttackRecord,
    GuardedAnswer,
    PromptRecord,
    difference,
    file_record,
    model_record,
    software,
)
from smoothguard_guardrail.core.request_perturber import GuardView, ModelFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from smoothguard_guardrail.attacks import Progress
    from smoothguard_guardrail.cli.attack.inputs import OutputPaths, Prompt
    from smoothguard_guardrail.cli.attack.media import InputMedium
    from smoothguard_guardrail.cli.attack.methods import Choices
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.result import GuardResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for."""

    spec: str
    """The model's name, as given."""
    source: Path
    prompts: tuple[Prompt, ...]
    choices: Choices
    seed: int
    guard: SmoothGuardConfig | None
    paths: OutputPaths
    command: tuple[str, ...]
    """What repeats the attack."""
    resumed: bool


def run(
    job: Job, model: ChatTransformersMultimodal, source: InputMedium, progress: Callable[[Progress], None]
) -> AttackRecord:
    """Attack, write the medium, ask the model and the guard about it, and return the record.

    Args:
        job: What to do.
        model: The model of that name.
        source: What the input file holds.
        progress: Called after every step.

    Raises:
        SmoothGuardError: As the attack, the model or the guard does.
    """
    started, described = datetime.now(UTC), model_record(job.spec, model)
    medium = as_met(model, source)
    questions = [prompt.question for prompt in job.prompts]
    before = answers_to_medium(model, medium, questions)
    targets = [prompt.target or answer for prompt, answer in zip(job.prompts, before, strict=True)]
    meter = Meter(model=model, questions=questions, targets=targets, transform=_transform(job, model))
    attack = job.choices.build(job.seed, meter.transform)
    clock = time.perf_counter()
    result = attack.run(
        meter.objective(medium),
        medium.tensor[None].to(model.engine.device),
        num_rows=len(questions),
        progress=progress,
        checkpoint=job.paths.checkpoint(job.seed),
        inputs=repr((described, questions, targets)),
    )
    seconds = time.perf_counter() - clock
    write_medium(job.paths.medium, result.images[0].cpu(), medium.sampling_rate)
    found = read_medium(job.paths.medium, medium.kind)
    settings = job.choices.settings(attack, job.seed)
    return AttackRecord(
        command=job.command,
        started=started,
        seconds=seconds,
        resumed=job.resumed,
        software=software(),
        model=described,
        settings=settings,
        guard=job.guard,
        input=file_record(job.source, medium),
        output=file_record(job.paths.medium, found),
        difference=difference(medium, found, settings),
        num_queries=None if result.num_queries is None else int(result.num_queries.sum()),
        loss=meter.losses(medium, found, settings, result.history),
        prompts=_prompts(job, meter, before),
    )


def _transform(job: Job, model: ChatTransformersMultimodal) -> GuardView | None:
    if not job.choices.through_guard or job.guard is None:
        return None
    return GuardView(config=job.guard, facts=ModelFacts.of(model))


def _prompts(job: Job, meter: Meter, before: Sequence[str]) -> tuple[PromptRecord, ...]:
    path, questions, targeted = job.paths.medium, meter.questions, job.choices.targeted
    after = answers_to_file(meter.model, path, questions)
    results = guarded_results(meter.model, job.guard, path, questions) if job.guard else [None] * len(questions)
    return tuple(
        PromptRecord(
            question=question,
            target=target,
            answer_before=first,
            answer_after=last,
            reached=holds(last, target) is targeted,
            guarded=result and _guarded(result, target, targeted=targeted),
        )
        for question, target, first, last, result in zip(questions, meter.targets, before, after, results, strict=True)
    )


def _guarded(result: GuardResult, target: str, *, targeted: bool) -> GuardedAnswer:
    answer = str(result.answer.text)
    return GuardedAnswer(
        answer=answer,
        reached=holds(answer, target) is targeted,
        verdict=result.verdict,
        agreement=result.agreement,
        num_calls=result.num_calls,
        seed=result.seed,
    )
