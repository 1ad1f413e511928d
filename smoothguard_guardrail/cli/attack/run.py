"""Runs an attack, writes its result, and measures that from the saved file."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from langchain_core.messages import HumanMessage

from smoothguard_guardrail._internal.files import write_atomic
from smoothguard_guardrail._internal.versions import package_versions
from smoothguard_guardrail.cli.attack.losses import make_objective, measure
from smoothguard_guardrail.cli.attack.record import (
    SOFTWARE,
    AttackRecord,
    Difference,
    GuardedAnswer,
    Losses,
    PromptRecord,
    file_record,
    model_record,
)
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.evaluation.input_media import as_model_input, read_medium
from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.media.files import request_from_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from smoothguard_guardrail.attacks import AttackProgress
    from smoothguard_guardrail.cli.attack.inputs import OutputPaths, Prompt
    from smoothguard_guardrail.cli.attack.settings import Settings
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.input_media import InputMedium
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_QUESTIONS_PER_PASS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for."""

    spec: str
    """The model's name, as given."""
    source: Path
    prompts: tuple[Prompt, ...]
    settings: Settings
    """With a seed."""
    guard: SmoothGuardConfig | None
    paths: OutputPaths
    command: tuple[str, ...]
    """What repeats the attack."""

    @property
    def checkpoint(self) -> Path:
        """Where the state of the attack is saved until the record is written."""
        return self.paths.checkpoint(self.settings.seed or 0)


def run(
    job: Job, model: ChatTransformersMultimodal, source: InputMedium, progress: Callable[[AttackProgress], None]
) -> AttackRecord:
    """Attack, write the medium, ask the model and the guard about it, and return the record.

    Args:
        job: What to do.
        model: The model with the job's name.
        source: The decoded input file.
        progress: Called after every step.

    Raises:
        SmoothGuardError: As the attack, the model or the guard does.
    """
    started, described = datetime.now(UTC), model_record(job.spec, model)
    medium = as_model_input(model, source)
    questions = [prompt.question for prompt in job.prompts]
    texts = [{"type": "text", "text": question} for question in questions]
    before = _answers(model, [HumanMessage([medium.block, text]) for text in texts])
    targets = [prompt.target or answer for prompt, answer in zip(job.prompts, before, strict=True)]
    objective = make_objective(model, medium, questions, targets)
    view = (
        GuardView(config=job.guard, model_info=ModelInfo.find(model))
        if job.guard and job.settings.through_guard
        else None
    )
    attack = job.settings.build(medium.kind, view)
    resumed = job.checkpoint.exists()
    clock = time.perf_counter()
    device = model.engine.device
    result = attack.run(
        objective,
        medium.tensor[None].to(device),
        num_rows=len(questions),
        progress=progress,
        checkpoint=job.checkpoint,
        keep_checkpoint=True,
        inputs=repr((described, questions, targets)),
    )
    seconds = time.perf_counter() - clock
    write_atomic(job.paths.medium, medium.encode(result.images[0].cpu()))
    saved = read_medium(job.paths.medium)
    settings = job.settings.as_used(attack)
    losses = measure(objective, [each.tensor.to(device) for each in (medium, saved)], len(questions), attack)
    return AttackRecord(
        command=job.command,
        started=started,
        seconds=seconds,
        resumed=resumed,
        software=package_versions(SOFTWARE),
        model=described,
        settings=settings,
        guard=job.guard,
        input=file_record(job.source, medium),
        output=file_record(job.paths.medium, saved),
        difference=Difference.between(medium, saved, settings),
        num_queries=None if result.num_queries is None else int(result.num_queries.sum()),
        loss=Losses(**losses, history=tuple(result.history.flatten().tolist())),
        prompts=_prompt_records(job, model, targets, before),
    )


def contains_words(answer: str, target: str) -> bool:
    """Return whether an answer contains the target's words in order, ignoring case and punctuation.

    Example:
        >>> contains_words("Sure: the code is 7391!", "The code is 7391.")
        True
        >>> contains_words("The code is 73.", "The code is 7391.")
        False
    """
    answer_words, target_words = (" ".join(re.findall(r"\w+", text.casefold())) for text in (answer, target))
    return f" {target_words} " in f" {answer_words} "


def _prompt_records(
    job: Job, model: ChatTransformersMultimodal, targets: Sequence[str], before: Sequence[str]
) -> tuple[PromptRecord, ...]:
    requests = [request_from_files([job.paths.medium], prompt.question) for prompt in job.prompts]
    after = _answers(model, requests)
    guard = job.guard and SmoothGuardRunnable(model, config=job.guard)
    targeted = job.settings.targeted
    return tuple(
        PromptRecord(
            question=prompt.question,
            target=target,
            answer_before=first,
            answer_after=last,
            reached=contains_words(last, target) is targeted,
            guarded=guard and _guarded(guard, request, target, targeted=targeted),
        )
        for prompt, request, target, first, last in zip(job.prompts, requests, targets, before, after, strict=True)
    )


def _guarded(guard: SmoothGuardRunnable, request: HumanMessage, target: str, *, targeted: bool) -> GuardedAnswer:
    result = guard.guard([request])
    answer = str(result.answer.text)
    return GuardedAnswer(
        answer=answer,
        reached=contains_words(answer, target) is targeted,
        verdict=result.verdict,
        agreement=result.agreement,
        num_calls=result.num_calls,
        seed=result.seed,
    )


def _answers(model: ChatTransformersMultimodal, requests: Sequence[HumanMessage]) -> tuple[str, ...]:
    starts = range(0, len(requests), _QUESTIONS_PER_PASS)
    batches = [[[request] for request in requests[start : start + _QUESTIONS_PER_PASS]] for start in starts]
    return tuple(str(answer.text) for batch in batches for answer in model.generate_batch(batch))
