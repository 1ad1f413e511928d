"""Square Attack: random search with queries only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from smoothguard_guardrail.attacks.base import Attack
from smoothguard_guardrail.attacks.problem import Evaluations, Problem, State
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

Success: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Fractions of the steps after which the squares' area is halved, as in the authors' code."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SquareAttack(Attack):
    """Random search with squares: no gradient, one query per image and step.

    A call asks the model for the likelihood of the targets. If you only have answers, pass your own score to `run`:
    `SquareAttack(16 / 255).run(score, images)` with `score(images, rows) -> losses (num_rows,)`, lower being better
    for the attacker. A score may ask a remote model, or a guarded one. Candidates are rounded to 8 bits within the
    ball before they are scored, so the scores are those of the returned images.

    A candidate changes the best image so far in one random square (`linf`: by epsilon up or down in each channel;
    `l2`: by a bump whose size is taken from another square), and is kept if its loss is lower. Squares shrink over
    time.

    Source: Andriushchenko et al., arXiv 1912.00049, algorithms 1 to 3, with the schedule of their code.

    Also takes the settings of `Attack`.

    Args:
        num_steps: Queries per image at most.
        p_init: Share of the image's area that squares cover at first, in (0, 1].
        success: Called with the images just scored and their rows, like a score; returns bool (num_rows,). An image
            that succeeds is final and not queried again. None: every step is taken.

    Raises:
        ConfigurationError: A number is out of range.

    Example:
        >>> darkness = lambda images, rows: images.mean(dim=(1, 2, 3))
        >>> result = SquareAttack(8 / 255, num_steps=50, seed=0).run(darkness, torch.full((1, 3, 8, 8), 128 / 255))
        >>> bool(result.loss < 128 / 255), result.num_queries.tolist()
        (True, [50])
    """

    epsilon: float = field(kw_only=False)
    num_steps: int = 1000
    p_init: float = 0.8
    success: Success | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon is None:
            raise ConfigurationError("SquareAttack works at the bound: epsilon must be a number, not None")
        if not 0 < self.p_init <= 1:
            raise ConfigurationError(f"p_init must lie in (0, 1], not be {self.p_init}")

    def _start(self, problem: Problem) -> State:
        original, generator = problem.original, problem.generator
        if self.norm == "linf":
            # Vertical stripes: the paper found networks to be sensitive to them.
            change = _signs((*original.shape[:2], 1, original.shape[3]), generator).expand_as(original)
        else:
            change = torch.stack([_tiles(each, generator) for each in original])
        none = torch.zeros(len(original), dtype=torch.long, device=original.device)
        return State.at(self._at_border(problem, change), num_queries=none, done=none.bool())

    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        done = state.extra["done"]
        state.point = problem.ball.round(state.point, problem.original)
        points = torch.nonzero(~done).flatten()
        loss = problem.evaluate(state.point, Evaluations(points=points, rows=points))
        state.extra["num_queries"] = state.extra["num_queries"] + ~done
        return torch.where(done, problem.sign * state.best_loss, loss), None

    def _next(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        self._check_success(problem, state)
        original, generator = problem.original, problem.generator
        share = self._share(state.step)
        if self.norm == "linf":
            inside = _squares(original, _side(original, share, least=1), generator)
            signs = _signs((*original.shape[:2], 1, 1), generator)
            return torch.where(inside, original + self.epsilon * signs, state.best)
        side = _side(original, share, least=3) | 1  # odd, so that a bump has a middle
        changes = [self._move_bump(each, side, generator) for each in state.best - original]
        return self._at_border(problem, torch.stack(changes))

    def _is_done(self, state: State) -> bool:
        return bool(state.extra["done"].all())

    def _candidates(self, problem: Problem, state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [problem.ball.round(state.best, problem.original)], [problem.sign * state.best_loss]

    def _check_success(self, problem: Problem, state: State) -> None:
        """Call `success` with the images just scored; those that succeed become the best ones."""
        if self.success is None:
            return
        rows = torch.nonzero(~state.extra["done"]).flatten()
        with torch.no_grad():
            mask = torch.as_tensor(self.success(state.point[rows], rows), device=rows.device)
        if mask.shape != rows.shape or mask.dtype != torch.bool:
            raise AdapterError(f"expected bool ({len(rows)},) from success, got {mask.dtype} {(*mask.shape,)}")
        won = torch.zeros_like(state.extra["done"])
        won[rows] = mask
        state.best = torch.where(won.view(-1, 1, 1, 1), state.point, state.best)
        state.best_loss = torch.where(won, problem.sign * state.history[-1], state.best_loss)
        state.extra["done"] = state.extra["done"] | won

    def _share(self, step: int) -> float:
        """Return the share of the area that a square covers."""
        return float(self.p_init / 2 ** sum(step / self.num_steps > fraction for fraction in _HALVINGS))

    def _at_border(self, problem: Problem, change: torch.Tensor) -> torch.Tensor:
        """Return the point at the ball's border in the direction of a change."""
        ball, original = problem.ball, problem.original
        return ball.project(original + self.epsilon * ball.direction(change), original)

    def _move_bump(self, change: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
        """Return a change (channels, height, width) with a new bump, of the length that another square gives up."""
        channels, height, width = change.shape
        side = min(side, height, width)
        new, old = (_window(change, side, generator) for _ in range(2))
        both = torch.zeros_like(change, dtype=torch.bool)
        both[new] = both[old] = True
        given = torch.where(both, change, 0).square().sum(dim=(1, 2), keepdim=True)
        unused = max(self.epsilon**2 - float(change.square().sum()), 0) / channels
        bump = _bump(side, generator, change) * _signs((channels, 1, 1), generator) + _unit(change[new])
        changed = change.clone()
        changed[old] = 0
        changed[new] = _unit(bump) * (given + unused).sqrt()
        return changed


def _side(images: torch.Tensor, share: float, *, least: int) -> int:
    height, width = images.shape[2:]
    return min(max(round(math.sqrt(share * height * width)), least), height, width)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=generator.device) * 2.0 - 1


def _squares(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return bool (batch, 1, height, width): one random square per image."""
    batch, _, height, width = images.shape
    inside = []
    for length, shape in ((height, (batch, 1, height, 1)), (width, (batch, 1, 1, width))):
        start = torch.randint(0, length - side + 1, (batch, 1), generator=generator, device=images.device)
        place = torch.arange(length, device=images.device)
        inside.append(((place >= start) & (place < start + side)).view(shape))
    return inside[0] & inside[1]


def _window(change: torch.Tensor, side: int, generator: torch.Generator) -> tuple[slice, slice, slice]:
    top, left = (
        int(torch.randint(0, length - side + 1, (), generator=generator, device=change.device))
        for length in change.shape[1:]
    )
    return slice(None), slice(top, top + side), slice(left, left + side)


def _unit(bumps: torch.Tensor) -> torch.Tensor:
    """Scale (channels, height, width) to length one in each channel."""
    return bumps / bumps.square().sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12)


def _bump(side: int, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Return the paper's bump eta, (side, side) of length one: up in one half, down in the other, randomly turned."""
    half = side // 2
    bump = torch.cat([_hill(half, side), -_hill(side - half, side)]).to(like)
    turned = bool(torch.randint(0, 2, (), generator=generator, device=like.device))
    return _unit(bump.T if turned else bump)


def _hill(height: int, width: int) -> torch.Tensor:
    """Return (height, width) of length one: concentric rectangles, the larger the flatter."""
    hill = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(height, width) // 2 + 1):
        rows = slice(max(top - ring, 0), top + ring + 1)
        columns = slice(max(left - ring, 0), left + ring + 1)
        hill[rows, columns] += 1 / (ring + 1) ** 2
    return _unit(hill)


def _tiles(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a change (channels, height, width) made of adjacent bumps with random signs."""
    channels, height, width = image.shape
    side = max(min(height, width) // 5, 1)
    change = torch.zeros_like(image)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            bump = _bump(side, generator, image) * _signs((channels, 1, 1), generator)
            change[:, top : top + side, left : left + side] = bump
    return change
