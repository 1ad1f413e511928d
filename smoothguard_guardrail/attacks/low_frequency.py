"""PGD whose changes have no high frequencies: what noise and low-pass filters do least about."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.problem import Problem, State
from smoothguard_guardrail.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, eq=False)
class LowFrequencyPGD(PGD):
    """PGD on a coarse grid, enlarged bilinearly to the images' size.

    Source: Guo et al., arXiv 1809.08758 (low-frequency perturbations), with a grid for their cosine transform.

    Also takes the settings of `PGD`, except random starts, windows, the norm `l2` and other spaces.

    Args:
        grid: Cells along each axis.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> LowFrequencyPGD(16 / 255, grid=24, num_steps=50).grid
        24
    """

    epsilon: float = field(kw_only=False)
    grid: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid < 1:
            raise ConfigurationError(f"grid must be at least 1, not {self.grid}")
        if self.norm != "linf" or self.epsilon is None or self.random_start or self.window is not None:
            raise ConfigurationError("a grid needs the norm linf and an epsilon, and neither random start nor window")

    def _start(self, problem: Problem) -> State:
        cells = problem.original.new_zeros((*problem.original.shape[:2], self.grid, self.grid))
        return State.at(problem.original.clone(), velocity=cells, cells=cells)

    def _next(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        if gradient is None:
            return state.point
        cells = state.extra["cells"].detach().requires_grad_()
        with torch.enable_grad():
            (pooled,) = torch.autograd.grad(_enlarged(cells, gradient), cells, gradient)
        velocity = self._accumulated(problem, state, pooled)
        moved = (cells.detach() - self._length(state) * velocity.sign()).clamp(-self.epsilon, self.epsilon)
        state.extra["cells"] = moved
        return problem.original + _enlarged(moved, gradient)


def _enlarged(cells: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(cells, size=like.shape[-2:], mode="bilinear", align_corners=False)
