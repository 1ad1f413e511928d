"""One image for many questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.problem import Evaluations
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True, eq=False)
class UniversalPGD(PGD):
    """PGD on one image over a corpus of questions and targets, such as a jailbreak that fits any question.

    Call it with one image, float32 (3, height, width), and the corpus's questions and targets; the result is a batch
    of one. Each step goes along the gradient of the mean loss over a random minibatch of the corpus; the history
    holds the loss of these minibatches. The result is the better of the last point and the best one on the way,
    compared on the whole corpus. `run` takes a batch of one and needs `num_rows`.

    Source: Qi et al., arXiv 2306.13213, section 3 (visual attack); minibatches of 8, steps of 1/255 along the sign,
    5000 of them, unconstrained or bounded by 16/255, 32/255 or 64/255.

    Also takes the settings of `PGD`, some with other defaults.

    Args:
        minibatch_size: Entries of the corpus per step; all if the corpus is smaller.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> attack = UniversalPGD(epsilon=32 / 255, num_steps=2000, seed=0)
        >>> result = attack(model, image, questions, targets)  # doctest: +SKIP
    """

    epsilon: float | None = field(default=None, kw_only=False)
    step_size: float | None = 1 / 255
    num_steps: int = 5000
    momentum: float = 0.0
    minibatch_size: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minibatch_size < 1:
            raise ConfigurationError(f"minibatch_size must be at least 1, not {self.minibatch_size}")

    def _check_images(self, images: torch.Tensor, questions: Sequence[str], targets: Sequence[str]) -> torch.Tensor:
        if images.ndim != 3 or len(images) != 3 or not questions or len(questions) != len(targets):
            raise ConfigurationError("expected one image (3, height, width) and at least one question with its target")
        return self.space.check(images[None])

    def _evaluations(self, problem: Problem, *, final: bool = False) -> Evaluations:
        device = problem.original.device
        if final:
            rows = torch.arange(problem.num_rows, device=device)
        else:
            shuffled = torch.randperm(problem.num_rows, generator=problem.generator, device=device)
            rows = shuffled[: self.minibatch_size]
        rows = rows.repeat_interleave(self.draws_per_step)
        points = torch.arange(len(problem.original), device=device)
        return Evaluations(points=points.repeat_interleave(len(rows)), rows=rows.repeat(len(points)))
