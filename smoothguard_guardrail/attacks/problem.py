"""What an attack minimises, and how it is evaluated in batches that fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from smoothguard_guardrail.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from smoothguard_guardrail.attacks.ball import Ball


class Objective(Protocol):
    """A loss of media that depends on which question and target goes with which.

    Called with media, float32 (num_rows, ...) in the space's bounds, and rows, int64 (num_rows,) from 0; returns
    losses, float (num_rows,), differentiable in the media. `TargetLoss` is one.
    """

    def __call__(self, media: torch.Tensor, rows: torch.Tensor, /) -> torch.Tensor:
        """Return the loss of each row."""
        ...

    def frozen(self) -> AbstractContextManager[None]:
        """Hold the model while an attack runs, with parameters that ask for no gradient."""
        ...


class Transform(Protocol):
    """What a defence does to pictures before the model sees them: random, and differentiable in the pictures.

    Called with float32 (num_rows, 3, height, width) in [0, 1] and a generator on the same device; returns the
    same shape. Any `Perturber` fits. Where a step has no gradient, see `StraightThrough`.
    """

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Return what the model would see."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which evaluations make up the loss of a batch of points, every point being evaluated equally often.

    Attributes:
        points: Int64 (num_rows,): which point of the batch.
        rows: Int64 (num_rows,): which row of the objective.
    """

    points: torch.Tensor
    rows: torch.Tensor

    def chunks(self, size: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield points and rows, at most `size` at a time."""
        step = size or len(self.rows)
        for start in range(0, len(self.rows), step):
            yield self.points[start : start + step], self.rows[start : start + step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One run's inputs.

    Attributes:
        objective: The loss.
        original: Float32 (num_restarts * batch, ...): the balls' centres, all of the batch before the next restart.
        num_rows: How many rows the objective knows.
        generator: Draws everything that the walk draws.
        ball: What may change.
        transform: What the defence does.
        max_batch_size: Most rows in one forward pass; None: all.
        sign: 1 where the loss is minimised, -1 where it is maximised.
    """

    objective: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    original: torch.Tensor
    num_rows: int
    generator: torch.Generator
    ball: Ball
    transform: Transform | None
    max_batch_size: int | None
    sign: int

    def gradient(self, points: torch.Tensor, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each point's mean loss (batch,), and the gradient of these in the points."""
        points = points.detach().requires_grad_()
        share = len(asked.rows) // len(points)
        total = torch.zeros(len(points), device=points.device)
        gradient = torch.zeros_like(points)
        for places, rows in asked.chunks(self.max_batch_size):
            losses = self._losses(points, places, rows, self.generator)
            gradient += torch.autograd.grad(losses.sum(), points)[0] / share
            total.index_add_(0, places, losses.detach() / share)
        return total, gradient

    def evaluate(self, points: torch.Tensor, asked: Asked, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return each point's mean loss (batch,), without a gradient; points that are not asked about have 0."""
        total = torch.zeros(len(points), device=points.device)
        share = asked.points.bincount(minlength=len(points)).clamp_min(1)
        with torch.no_grad():
            for places, rows in asked.chunks(self.max_batch_size):
                losses = self._losses(points, places, rows, generator or self.generator)
                total.index_add_(0, places, losses / share[places])
        return total

    def fork(self) -> torch.Generator:
        """Return a generator that draws what this run's would draw next, and leaves that one alone."""
        forked = torch.Generator(device=self.generator.device)
        forked.set_state(self.generator.get_state())
        return forked

    def _losses(
        self, points: torch.Tensor, places: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        seen = points[places]
        if self.transform is not None:
            seen = self.transform(seen, generator=generator)
        losses = self.objective(seen, rows)
        if losses.shape != rows.shape:
            raise AdapterError(f"the objective has to return losses ({len(rows)},), not {(*losses.shape,)}")
        if losses.isnan().any():
            raise AdapterError("the objective returned a loss that is no number")
        return losses.float()


@dataclass(slots=True, kw_only=True)
class State:
    """Where a walk stands.

    Attributes:
        point: Float32 (num_restarts * batch, ...): what is evaluated next.
        best: Same shape: the best point that was evaluated.
        best_loss: Float32 (num_restarts * batch,): the loss at the best point, times the problem's sign.
        kept: What an attack carries from step to step, such as a velocity.
        history: The loss of the point before each step, (num_restarts * batch,) each.
        snapshots: Media by the number of steps.
    """

    point: torch.Tensor
    best: torch.Tensor
    best_loss: torch.Tensor
    kept: dict[str, torch.Tensor]
    history: list[torch.Tensor] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def at(cls, point: torch.Tensor, **kept: torch.Tensor) -> State:
        """Return the state before the first step."""
        nothing = torch.full((len(point),), torch.inf, device=point.device)
        return cls(point=point, best=point, best_loss=nothing, kept=kept)

    @property
    def step(self) -> int:
        """Steps taken."""
        return len(self.history)

    def note(self, loss: torch.Tensor, sign: int) -> None:
        """Write down the loss of the point, and keep the point where it is the best so far."""
        better = sign * loss < self.best_loss
        self.best = torch.where(better.view(-1, *(1 for _ in self.point.shape[1:])), self.point, self.best)
        self.best_loss = torch.where(better, sign * loss, self.best_loss)
        self.history.append(loss)

    def dump(self, generator: torch.Generator) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        names = ("point", "best", "best_loss", "kept", "history", "snapshots")
        return {name: getattr(self, name) for name in names} | {"generator": generator.get_state()}

    @classmethod
    def restore(cls, saved: dict[str, Any], generator: torch.Generator) -> State:
        """Return the state that was dumped, and set the generator to where it was."""
        generator.set_state(saved.pop("generator").cpu())
        return cls(**saved)
