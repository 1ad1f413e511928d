"""Projected gradient descent on media, towards a wanted answer or away from one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from smoothguard_guardrail.attacks.ball import Window
from smoothguard_guardrail.attacks.base import Attack
from smoothguard_guardrail.attacks.problem import Problem, State, Transform
from smoothguard_guardrail.attacks.space import PIXELS, Space
from smoothguard_guardrail.errors import ConfigurationError

_LAST_STEP = 0.1  # share of the step size that decay leaves at least


@dataclass(frozen=True, kw_only=True, eq=False)
class PGD(Attack):
    """PGD with momentum, in pixel space, through the model's own image processor.

    Each step has length `step_size` along the accumulated gradient (each gradient divided by its mean absolute
    value): with `linf` along its sign, with `l2` along its direction. The point is then projected onto the ball and
    the bounds. With a `transform` the gradient is that of the mean loss over `num_draws` draws (expectation over
    transformation). The result is the better of the last point and the best one on the way, both rounded to 8 bits
    inside the ball and compared on the same fresh draws.

    Other losses and media go through `run`: `PGD(0.01, space=WAVEFORM).run(objective, waveforms)` attacks waveforms,
    float32 (batch, channels, samples) in [-1, 1], with `objective(waveforms, rows) -> losses`.

    Source: Madry et al., arXiv 1706.06083, section 2.1; momentum: Dong et al., arXiv 1710.06081, equation 6;
    expectation over transformation: Athalye et al., arXiv 1707.07397.

    Also takes the settings of `Attack`.

    Args:
        step_size: Length of a step, in the same norm; None: `epsilon / 4`, more with fewer than four steps; without
            epsilon 1/255 (`linf`, images).
        momentum: Share of the accumulated gradient that is kept; 0: none.
        step_decay: Shrink steps linearly to a tenth, so that an attack with noisy gradients settles.
        random_start: Start at a random point of the ball instead of the original.
        num_restarts: Random starts, run at the same time; the best result per image wins.
        transform: What the defence does, to attack the model behind it; None: the bare model.
        num_draws: Draws of the transform per step.
        space: What is attacked: `PIXELS` or, with `run` only, `WAVEFORM`.
        window: Top, left, height and width in pixels of the only part of the images that may change, with the norm
            `linf`: an adversarial patch (Brown et al., arXiv 1712.09665). None: all of it.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> attack = PGD(epsilon=16 / 255, num_steps=100, seed=0)
        >>> result = attack(model, images, questions, targets)  # doctest: +SKIP
    """

    step_size: float | None = None
    momentum: float = 0.5
    step_decay: bool = False
    random_start: bool = False
    num_restarts: int = 1
    transform: Transform | None = None
    num_draws: int = 1
    space: Space = PIXELS
    window: Window | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_length <= 0:
            raise ConfigurationError(f"step_size must be positive, not {self.step_size}")
        if not 0 <= self.momentum < 1:
            raise ConfigurationError(f"momentum must lie in [0, 1), not be {self.momentum}")
        if self.num_restarts > 1 and not self.random_start:
            raise ConfigurationError("num_restarts above 1 needs random_start=True")

    @property
    def step_length(self) -> float:
        """Length of the first step: `step_size`, or its default."""
        if self.step_size is not None:
            return self.step_size
        if self.epsilon is not None:
            return self.epsilon / min(4, self.num_steps)
        if self.norm == "linf" and self.space is PIXELS:
            return 1 / 255
        raise ConfigurationError("step_size is required without epsilon")

    def _start(self, problem: Problem) -> State:
        original = problem.original
        point = problem.ball.random_point(original, problem.generator) if self.random_start else original.clone()
        return State.at(point, velocity=torch.zeros_like(point))

    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        return problem.gradient(state.point, self._evaluations(problem))

    def _next(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        if gradient is None:
            return state.point
        velocity = self._accumulated(problem, state, gradient)
        return state.point - self._length(state) * problem.ball.direction(velocity)

    def _length(self, state: State) -> float:
        """Return the length of the current step, which is already in the history."""
        done = (state.step - 1) / self.num_steps
        return self.step_length * (max(_LAST_STEP, 1 - done) if self.step_decay else 1)

    def _accumulated(self, problem: Problem, state: State, gradient: torch.Tensor) -> torch.Tensor:
        """Add a gradient, divided by its mean absolute value, to what momentum keeps of the earlier ones."""
        dimensions = tuple(range(1, gradient.ndim))
        size = gradient.abs().mean(dim=dimensions, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        velocity = self.momentum * state.extra["velocity"] + problem.sign * gradient / size
        state.extra["velocity"] = velocity
        return velocity
