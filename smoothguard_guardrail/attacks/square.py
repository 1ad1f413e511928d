"""Square Attack: random search by queries alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch

from smoothguard_guardrail.attacks.base import Attack
from smoothguard_guardrail.attacks.problem import Asked, Problem, State
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks.ball import Norm

Success: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class SquareAttack(Attack):
    """Random search with squares: no gradient, one query per picture and step.

    A call asks the model for the likelihood of the targets. Whoever has only answers brings their own score to
    `run`: `SquareAttack(16 / 255).run(score, images)`, with `score(images, rows) -> losses (num_rows,)`, lower being
    better for the attacker. A score may ask a remote model, or a guarded one. What is scored is what comes back:
    candidates are rounded to 8 bits within the ball before they are scored.

    A candidate changes the best picture so far in one random square (`linf`: by epsilon up or down in each channel;
    `l2`: by a bump whose size is taken from another square), and is kept if its loss is lower. Squares shrink as
    steps go by.

    Source: Andriushchenko et al., arXiv 1912.00049, algorithms 1 to 3, with the schedule of their code.

    Args:
        epsilon: Radius of the ball, in values of [0, 1], as of `PGD`.
        num_steps: Queries per picture at most.
        p_init: Share of a picture's area that squares cover at first, in (0, 1].
        norm: `linf` or `l2`.
        targeted: Whether the targets are wanted. False: they are to be left. Of a score: False maximises it.
        success: Called with the pictures just scored and their rows, as a score; returns a mask, bool (num_rows,). A
            picture that succeeds is kept and asked about no more. None: every step is taken.
        snapshot_steps: After how many steps to keep what would be returned then.
        seed: Makes the search repeatable; None: unpredictable.
        max_batch_size: Most pictures in one forward pass; None: all.

    Raises:
        ConfigurationError: A number is out of range.

    Example:
        >>> darkness = lambda images, rows: images.mean(dim=(1, 2, 3))
        >>> result = SquareAttack(8 / 255, num_steps=50, seed=0).run(darkness, torch.full((1, 3, 8, 8), 128 / 255))
        >>> bool(result.loss < 128 / 255), result.num_queries.tolist()
        (True, [50])
    """

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 1000,
        *,
        p_init: float = 0.8,
        norm: Norm = "linf",
        targeted: bool = True,
        success: Success | None = None,
        snapshot_steps: Sequence[int] = (),
        seed: int | None = None,
        max_batch_size: int | None = 32,
    ) -> None:
        super().__init__(
            epsilon,
            norm=norm,
            targeted=targeted,
            num_steps=num_steps,
            snapshot_steps=snapshot_steps,
            seed=seed,
            max_batch_size=max_batch_size,
        )
        if not 0 < p_init <= 1:
            raise ConfigurationError(f"p_init has to lie in (0, 1], not be {p_init}")
        self._radius = epsilon
        self.p_init = p_init
        self.success = success

    def _begin(self, problem: Problem) -> State:
        original, generator = problem.original, problem.generator
        if self.norm == "linf":
            # Vertical stripes: the paper found networks to be sensitive to them.
            change = _signs((*original.shape[:2], 1, original.shape[3]), generator).expand_as(original)
        else:
            change = torch.stack([_tiles(each, generator) for each in original])
        none = torch.zeros(len(original), dtype=torch.long, device=original.device)
        return State.at(self._at(change, original), num_queries=none, done=none.bool())

    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        state.point = self._ball.round(state.point, problem.original)
        points = torch.nonzero(~state.kept["done"]).flatten()
        found = problem.evaluate(state.point, Asked(points=points, rows=points))
        state.kept["num_queries"] = state.kept["num_queries"] + ~state.kept["done"]
        return torch.where(state.kept["done"], problem.sign * state.best_loss, found), None

    def _move(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        self._note_success(problem, state)
        original, generator = problem.original, problem.generator
        share = self._share(state.step)
        if self.norm == "linf":
            side = _side(original, share, least=1)
            inside = _squares(original, side, generator)
            signs = _signs((*original.shape[:2], 1, 1), generator)
            return torch.where(inside, original + self._radius * signs, state.best)
        side = _side(original, share, least=3) | 1  # odd: a bump has a middle
        changes = [self._bump(each, side, generator) for each in state.best - original]
        return self._at(torch.stack(changes), original)

    def _is_done(self, state: State) -> bool:
        return bool(state.kept["done"].all())

    def _candidates(self, problem: Problem, state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [self._ball.round(state.best, problem.original)], [problem.sign * state.best_loss]

    def _note_success(self, problem: Problem, state: State) -> None:
        """Ask the user about the pictures just scored, and let those that succeed be the best ones."""
        if self.success is None:
            return
        rows = torch.nonzero(~state.kept["done"]).flatten()
        with torch.no_grad():
            mask = torch.as_tensor(self.success(state.point[rows], rows), device=rows.device)
        if mask.shape != rows.shape or mask.dtype != torch.bool:
            raise AdapterError(f"success has to return bool ({len(rows)},), not {mask.dtype} {(*mask.shape,)}")
        won = torch.zeros_like(state.kept["done"])
        won[rows] = mask
        state.best = torch.where(won.view(-1, 1, 1, 1), state.point, state.best)
        state.best_loss = torch.where(won, problem.sign * state.history[-1], state.best_loss)
        state.kept["done"] = state.kept["done"] | won

    def _share(self, step: int) -> float:
        """Return the share of the area that a square covers: halved at given parts of the way."""
        reached = sum(step / self.num_steps > part for part in _HALVINGS)
        return float(self.p_init / 2**reached)

    def _at(self, change: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """Return the point at the ball's border in the direction of a change."""
        return self._ball.project(original + self._radius * self._ball.direction(change), original)

    def _bump(self, change: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
        """Return a change (channels, height, width) with a new bump, of the length that another square gives up."""
        channels, height, width = change.shape
        side = min(side, height, width)
        new, old = (_window(change, side, generator) for _ in range(2))
        both = torch.zeros_like(change, dtype=torch.bool)
        both[new] = both[old] = True
        given = torch.where(both, change, 0).square().sum(dim=(1, 2), keepdim=True)
        unused = max(self._radius**2 - float(change.square().sum()), 0) / channels
        bump = _eta(side, generator, change) * _signs((channels, 1, 1), generator) + _unit(change[new])
        changed = change.clone()
        changed[old] = 0
        changed[new] = _unit(bump) * (given + unused).sqrt()
        return changed


_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Parts of the way after which the squares' area is halved, as in the authors' code."""

_Window: TypeAlias = tuple[slice, slice, slice]


def _side(images: torch.Tensor, share: float, *, least: int) -> int:
    height, width = images.shape[2:]
    return min(max(round(math.sqrt(share * height * width)), least), height, width)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator, device=generator.device) * 2.0 - 1


def _squares(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Return bool (batch, 1, height, width): one random square per picture."""
    batch, _, height, width = images.shape
    inside = []
    for length, shape in ((height, (batch, 1, height, 1)), (width, (batch, 1, 1, width))):
        start = torch.randint(0, length - side + 1, (batch, 1), generator=generator, device=images.device)
        place = torch.arange(length, device=images.device)
        inside.append(((place >= start) & (place < start + side)).view(shape))
    return inside[0] & inside[1]


def _window(change: torch.Tensor, side: int, generator: torch.Generator) -> _Window:
    top, left = (
        int(torch.randint(0, length - side + 1, (), generator=generator, device=change.device))
        for length in change.shape[1:]
    )
    return slice(None), slice(top, top + side), slice(left, left + side)


def _unit(bumps: torch.Tensor) -> torch.Tensor:
    """Scale (channels, height, width) to length one in each channel."""
    return bumps / bumps.square().sum(dim=(-2, -1), keepdim=True).sqrt().clamp_min(1e-12)


def _eta(side: int, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """Return the paper's bump, (side, side) of length one: up in one half and down in the other, at random turned."""
    half = side // 2
    bump = torch.cat([_hill(half, side), -_hill(side - half, side)]).to(like)
    turned = bool(torch.randint(0, 2, (), generator=generator, device=like.device))
    return _unit(bump.T if turned else bump)


def _hill(height: int, width: int) -> torch.Tensor:
    """Return (height, width) of length one: rectangles around the middle, the larger the flatter."""
    hill = torch.zeros(height, width)
    top, left = height // 2, width // 2
    for ring in range(max(height, width) // 2 + 1):
        rows = slice(max(top - ring, 0), top + ring + 1)
        columns = slice(max(left - ring, 0), left + ring + 1)
        hill[rows, columns] += 1 / (ring + 1) ** 2
    return _unit(hill)


def _tiles(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a change (channels, height, width) of bumps side by side, with random signs."""
    channels, height, width = image.shape
    side = max(min(height, width) // 5, 1)
    change = torch.zeros_like(image)
    for top in range(0, height - side + 1, side):
        for left in range(0, width - side + 1, side):
            bump = _eta(side, generator, image) * _signs((channels, 1, 1), generator)
            change[:, top : top + side, left : left + side] = bump
    return change
