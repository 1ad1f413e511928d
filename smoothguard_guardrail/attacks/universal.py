"""One picture for many questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.problem import Asked
from smoothguard_guardrail.attacks.space import PIXELS, Space
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks.ball import Norm
    from smoothguard_guardrail.attacks.problem import Problem, Transform


class UniversalPGD(PGD):
    """PGD on one picture over a corpus of questions and targets, such as a jailbreak that fits any question.

    Called with one picture, float32 (3, height, width), and a question and target per entry of the corpus; the
    result is a batch of one. Each step goes along the gradient of the mean loss over a random minibatch of the
    corpus; the loss in the history is that of the minibatch. What comes back is the better of the last point and
    the best one on the way, compared on the whole corpus.

    Source: Qi et al., arXiv 2306.13213, section 3 (visual attack); minibatches of 8, steps of 1/255 along the sign,
    5000 of them, unconstrained or bounded by 16/255, 32/255 or 64/255.

    Args:
        epsilon: As of `PGD`. None, the default: any picture.
        step_size: As of `PGD`.
        num_steps: Gradient steps.
        momentum: As of `PGD`.
        minibatch_size: Entries of the corpus per step; all, where the corpus is smaller.
        norm: `linf` or `l2`; the latter needs a `step_size` where there is no epsilon.
        targeted: Whether the targets are wanted, or to be left.
        random_start: Start at a random point of the ball instead of the original.
        num_restarts: Walks from different random starts, all at once; the best is kept.
        snapshot_steps: After how many steps to keep what would be returned then.
        seed: Makes random start, minibatches and draws repeatable; None: unpredictable.
        transform: What the defence does, to attack the model behind it; None: the bare model.
        num_draws: Draws of the transform per step and entry.
        max_batch_size: Most rows (entries times draws) in one forward pass; None: all.
        space: `PIXELS` or, with `run` alone, `WAVEFORM`; `run` takes a batch of one and needs `num_rows`.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> attack = UniversalPGD(epsilon=32 / 255, num_steps=2000, seed=0)
        >>> result = attack(model, image, questions, targets)  # doctest: +SKIP
    """

    def __init__(
        self,
        epsilon: float | None = None,
        step_size: float | None = 1 / 255,
        num_steps: int = 5000,
        momentum: float = 0.0,
        *,
        minibatch_size: int = 8,
        norm: Norm = "linf",
        targeted: bool = True,
        random_start: bool = False,
        num_restarts: int = 1,
        snapshot_steps: Sequence[int] = (),
        seed: int | None = None,
        transform: Transform | None = None,
        num_draws: int = 1,
        max_batch_size: int | None = 32,
        space: Space = PIXELS,
    ) -> None:
        if minibatch_size < 1:
            raise ConfigurationError("minibatch_size has to be at least 1")
        super().__init__(
            epsilon,
            step_size,
            num_steps,
            momentum,
            norm=norm,
            targeted=targeted,
            random_start=random_start,
            num_restarts=num_restarts,
            snapshot_steps=snapshot_steps,
            seed=seed,
            transform=transform,
            num_draws=num_draws,
            max_batch_size=max_batch_size,
            space=space,
        )
        self.minibatch_size = minibatch_size

    def _pictures(self, images: torch.Tensor, questions: Sequence[str], targets: Sequence[str]) -> torch.Tensor:
        if images.ndim != 3 or len(images) != 3 or not questions or len(questions) != len(targets):
            raise ConfigurationError("the image has to be (3, height, width), with one question and target or more")
        return self.space.check(images[None])

    def _asked(self, problem: Problem, *, judging: bool = False) -> Asked:
        device = problem.original.device
        if judging:
            rows = torch.arange(problem.num_rows, device=device)
        else:
            shuffled = torch.randperm(problem.num_rows, generator=problem.generator, device=device)
            rows = shuffled[: self.minibatch_size]
        rows = rows.repeat_interleave(self.num_draws)
        points = torch.arange(len(problem.original), device=device)
        return Asked(points=points.repeat_interleave(len(rows)), rows=rows.repeat(len(points)))
