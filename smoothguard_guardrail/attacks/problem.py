"""What an attack minimises, evaluated in batches that fit into memory."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

import torch

from smoothguard_guardrail.errors import AdapterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from smoothguard_guardrail.attacks.ball import Ball


class Objective(Protocol):
    """A loss of media, where each row has its own question and target; `TargetLoss` is one."""

    def __call__(self, media: torch.Tensor, rows: torch.Tensor, /) -> torch.Tensor:
        """Compute losses.

        Args:
            media: Float32 (num_rows, ...) in the space's bounds.
            rows: Int64 (num_rows,) from 0: which question and target goes with each medium.

        Returns:
            Float (num_rows,), differentiable in the media.
        """
        ...

    def frozen(self) -> AbstractContextManager[None]:
        """Hold the model while an attack runs, with parameters that need no gradient."""
        ...


class Transform(Protocol):
    """What a defence does to media before the model sees them: random, and differentiable in the media.

    Any `Perturber` fits. For steps without a gradient see `StraightThrough`.
    """

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Return what the model would see.

        Args:
            images: Float32 (num_rows, 3, height, width) in [0, 1].
            generator: The source of randomness, on the same device.

        Returns:
            Float32, same shape.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """The evaluations that make up the loss of a batch of points.

    Attributes:
        points: Int64 (num_rows,): which point of the batch.
        rows: Int64 (num_rows,): which row of the objective.
    """

    points: torch.Tensor
    rows: torch.Tensor

    def chunks(self, size: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield points and rows, at most `size` at a time."""
        size = size or len(self.rows)
        return zip(torch.split(self.points, size), torch.split(self.rows, size), strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The inputs of one run.

    Attributes:
        objective: The loss.
        original: Float32 (num_restarts * batch, ...): the balls' centres, the whole batch once per restart.
        num_rows: How many rows the objective has.
        generator: The source of all randomness.
        ball: What may change.
        transform: What the defence does.
        max_batch_size: Most rows in one forward pass; None: all.
        sign: 1 to minimise the loss, -1 to maximise it.
    """

    objective: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    original: torch.Tensor
    num_rows: int
    generator: torch.Generator
    ball: Ball
    transform: Transform | None
    max_batch_size: int | None
    sign: int

    def gradient(self, points: torch.Tensor, wanted: Evaluations) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each point's mean loss (batch,) and its gradient; every point has equally many evaluations."""
        points = points.detach().requires_grad_()
        share = len(wanted.rows) // len(points)
        total = torch.zeros(len(points), device=points.device)
        gradient = torch.zeros_like(points)
        for indices, rows in wanted.chunks(self.max_batch_size):
            losses = self._losses(points, indices, rows, self.generator)
            gradient += torch.autograd.grad(losses.sum(), points)[0] / share
            total.index_add_(0, indices, losses.detach() / share)
        return total, gradient

    def evaluate(
        self, points: torch.Tensor, wanted: Evaluations, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return each point's mean loss (batch,) without a gradient; 0 for points that are not evaluated."""
        total = torch.zeros(len(points), device=points.device)
        share = wanted.points.bincount(minlength=len(points)).clamp_min(1)
        with torch.no_grad():
            for indices, rows in wanted.chunks(self.max_batch_size):
                losses = self._losses(points, indices, rows, generator or self.generator)
                total.index_add_(0, indices, losses / share[indices])
        return total

    def fork_generator(self) -> torch.Generator:
        """Return a generator that draws what this run's would draw next, without advancing it."""
        forked = torch.Generator(device=self.generator.device)
        forked.set_state(self.generator.get_state())
        return forked

    def _losses(
        self, points: torch.Tensor, indices: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        seen = points[indices]
        if self.transform is not None:
            seen = self.transform(seen, generator=generator)
        losses = self.objective(seen, rows)
        if losses.shape != rows.shape:
            raise AdapterError(f"expected losses ({len(rows)},) from the objective, got {(*losses.shape,)}")
        if losses.isnan().any():
            raise AdapterError("expected finite losses from the objective, got NaN")
        return losses.float()


_TENSORS = ("point", "best", "best_loss")


@dataclass(slots=True, kw_only=True)
class State:
    """The state of an attack between two steps. Tensors are replaced, never changed in place.

    Attributes:
        point: Float32 (num_restarts * batch, ...): what is evaluated next.
        best: Same shape: the best point evaluated so far.
        best_loss: Float32 (num_restarts * batch,): the loss at the best point, times the problem's sign.
        extra: What an attack carries from step to step, such as a velocity.
        history: The loss of the point before each step, (num_restarts * batch,) each.
        snapshots: Media by the number of steps.
    """

    point: torch.Tensor
    best: torch.Tensor
    best_loss: torch.Tensor
    extra: dict[str, torch.Tensor]
    history: list[torch.Tensor] = field(default_factory=list)
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def at(cls, point: torch.Tensor, **extra: torch.Tensor) -> State:
        """Return the state before the first step."""
        return cls(point=point, best=point, best_loss=torch.full_like(point.flatten(1)[:, 0], torch.inf), extra=extra)

    @property
    def step(self) -> int:
        """Steps taken."""
        return len(self.history)

    def update(self, loss: torch.Tensor, sign: int) -> None:
        """Append the point's loss to the history, and replace the best point if this one is better."""
        better = sign * loss < self.best_loss
        self.best = torch.where(better.view(-1, *(1 for _ in self.point.shape[1:])), self.point, self.best)
        self.best_loss = torch.where(better, sign * loss, self.best_loss)
        self.history.append(loss)

    def dump(self, generator: torch.Generator) -> dict[str, Any]:
        """Return what a checkpoint holds; later steps do not change it."""
        values = {each.name: copy(getattr(self, each.name)) for each in fields(self) if each.name not in _TENSORS}
        values |= {name: getattr(self, name) for name in _TENSORS}
        return values | {"generator": generator.get_state()}

    @classmethod
    def restore(cls, saved: dict[str, Any], generator: torch.Generator) -> State:
        """Return the state that was dumped, and set the generator to where it was."""
        generator.set_state(saved.pop("generator").cpu())
        return cls(**saved)
