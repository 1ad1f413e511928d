"""Projected gradient descent on media, towards a wanted answer or away from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks.base import Attack, AttackResult
from smoothguard_guardrail.attacks.problem import Problem, State, Transform
from smoothguard_guardrail.attacks.space import PIXELS, Space
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks.ball import Norm

__all__ = ["EOTPGD", "PGD", "AttackResult", "Transform"]

_LAST_STEP = 0.1  # least share of the step size that decay leaves


class PGD(Attack):
    """PGD with momentum, in pixel space, through the model's own image processor.

    Each step goes `step_size` far along the accumulated gradient (each gradient divided by its mean absolute
    value): with `linf` along its sign, with `l2` along its direction. Then it projects onto the ball and the
    bounds. With a `transform` the gradient is that of the mean loss over `num_draws` draws (expectation over
    transformation). What comes back is the better of the last point and the best one on the way, both rounded to
    8 bits inside the ball and compared on the same fresh draws.

    Other losses and other media go through `run`: `PGD(0.01, space=WAVEFORM).run(objective, waveforms)` attacks
    waveforms, float32 (batch, channels, samples) in [-1, 1], with `objective(waveforms, rows) -> losses`.

    Source: Madry et al., arXiv 1706.06083, section 2.1; momentum: Dong et al., arXiv 1710.06081, equation 6;
    expectation over transformation: Athalye et al., arXiv 1707.07397.

    Args:
        epsilon: Radius of the ball, in values of [0, 1]: the greatest change of a value (`linf`), such as 16/255, or
            the Euclidean norm of the change of the whole picture (`l2`). None: any picture.
        step_size: Length of a step, in the same norm; None: `epsilon / 4`, more where there are fewer than four
            steps; without epsilon 1/255 (`linf`, pictures).
        num_steps: Gradient steps.
        momentum: Share of the accumulated gradient that is kept; 0: none.
        step_decay: Whether steps shrink linearly, to a tenth at the end: where draws make the gradient noisy, the walk
            settles.
        norm: `linf` or `l2`.
        targeted: Whether the targets are wanted. False: they are the answers to be left, and their loss is maximised.
        random_start: Start at a random point of the ball instead of the original.
        num_restarts: Walks from different random starts, all at once; the best is kept per picture.
        snapshot_steps: After how many steps to keep what would be returned then: a curve of success against budget
            from one run.
        seed: Makes random start and draws repeatable; None: unpredictable.
        transform: What the defence does, to attack the model behind it; None: the bare model.
        num_draws: Draws of the transform per step.
        max_batch_size: Most rows (pictures times draws) in one forward pass; None: all. On a CPU 32 is
            faster than more.
        space: What is attacked: `PIXELS` or, with `run` alone, `WAVEFORM`.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> attack = PGD(epsilon=16 / 255, num_steps=100, seed=0)
        >>> result = attack(model, images, questions, targets)  # doctest: +SKIP
    """

    def __init__(
        self,
        epsilon: float | None,
        step_size: float | None = None,
        num_steps: int = 100,
        momentum: float = 0.5,
        *,
        step_decay: bool = False,
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
        super().__init__(
            epsilon,
            norm=norm,
            targeted=targeted,
            num_steps=num_steps,
            snapshot_steps=snapshot_steps,
            seed=seed,
            transform=transform,
            num_draws=num_draws,
            max_batch_size=max_batch_size,
            space=space,
        )
        if step_size is not None and step_size <= 0:
            raise ConfigurationError(f"step_size has to be positive, not {step_size}")
        if not 0 <= momentum < 1:
            raise ConfigurationError(f"momentum has to lie in [0, 1), not be {momentum}")
        if num_restarts < 1 or (num_restarts > 1 and not random_start):
            raise ConfigurationError("num_restarts has to be at least 1, and more need random_start=True")
        self.step_size = self._default_step() if step_size is None else step_size
        self.momentum = momentum
        self.step_decay = step_decay
        self.random_start = random_start
        self.num_restarts = num_restarts

    def _default_step(self) -> float:
        if self.epsilon is not None:
            return self.epsilon / min(4, self.num_steps)
        if self.norm == "linf" and self.space is PIXELS:
            return 1 / 255
        raise ConfigurationError("without epsilon give step_size")

    def _begin(self, problem: Problem) -> State:
        original = problem.original
        point = self._ball.random_point(original, problem.generator) if self.random_start else original.clone()
        return State.at(point, velocity=torch.zeros_like(point))

    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        return problem.gradient(state.point, self._asked(problem))

    def _move(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        if gradient is None:
            return state.point
        every = tuple(range(1, gradient.ndim))
        size = gradient.abs().mean(dim=every, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        velocity = self.momentum * state.kept["velocity"] + problem.sign * gradient / size
        state.kept["velocity"] = velocity
        done = (state.step - 1) / self.num_steps  # the step was counted when its loss was noted
        length = self.step_size * (max(_LAST_STEP, 1 - done) if self.step_decay else 1)
        return state.point - length * self._ball.direction(velocity)


class EOTPGD(PGD):
    """PGD against a random defence: each gradient is the mean over draws of what the defence does.

    Source: Athalye et al., arXiv 1707.07397, equation 2.

    Args:
        epsilon: As of `PGD`.
        transform: What the defence does: any `Perturber`, such as the guard's own.
        step_size: As of `PGD`.
        num_steps: Gradient steps.
        momentum: As of `PGD`.
        num_draws: Draws of the transform per step.
        options: The other options of `PGD`.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> from smoothguard_guardrail.perturbations import GaussianNoise
        >>> EOTPGD(16 / 255, GaussianNoise(0.1), num_steps=200).num_draws
        16
    """

    def __init__(
        self,
        epsilon: float | None,
        transform: Transform,
        step_size: float | None = None,
        num_steps: int = 100,
        momentum: float = 0.5,
        *,
        step_decay: bool = False,
        norm: Norm = "linf",
        targeted: bool = True,
        random_start: bool = False,
        num_restarts: int = 1,
        snapshot_steps: Sequence[int] = (),
        seed: int | None = None,
        num_draws: int = 16,
        max_batch_size: int | None = 32,
        space: Space = PIXELS,
    ) -> None:
        if not callable(transform):
            raise ConfigurationError("transform has to be what the defence does, called as (images, generator=...)")
        super().__init__(
            epsilon,
            step_size,
            num_steps,
            momentum,
            step_decay=step_decay,
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
