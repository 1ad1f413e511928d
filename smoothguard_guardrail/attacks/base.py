"""What all attacks share: their settings, the loop, the final bound check, and the result."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, final

import torch

from smoothguard_guardrail.attacks.ball import Ball, Norm, Window
from smoothguard_guardrail.attacks.checkpoint import Checkpoint, digest_of
from smoothguard_guardrail.attacks.objective import TargetLoss
from smoothguard_guardrail.attacks.problem import Evaluations, Objective, Problem, State, Transform
from smoothguard_guardrail.attacks.result import AttackProgress, AttackResult, ProgressCallback
from smoothguard_guardrail.attacks.space import PIXELS, Space
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal


@dataclass(frozen=True, kw_only=True, eq=False)
class Attack(ABC):
    """An attack on a batch of media: optimise, round to what a file can hold, check the bound.

    A subclass says where to start (`_start`), how to evaluate a point (`_evaluate`) and where to go next (`_next`).
    The returned media always lie on the space's levels and within epsilon of their originals; otherwise an error is
    raised. A call attacks images; `run` takes any objective and media of the attack's space.

    Args:
        epsilon: Radius of the ball around each original, in units of the space's values (images: [0, 1]): the
            largest change of one value (`linf`), such as 16/255, or the Euclidean norm of the whole change (`l2`).
            None: only the space's bounds hold.
        norm: `linf` or `l2`.
        targeted: True: bring the targets about (minimise their loss). False: avoid them (maximise it).
        num_steps: Steps at most.
        snapshot_steps: Steps after which to record what would be returned then: a curve of success against budget
            from one run. The attack itself does not change.
        seed: Makes all randomness repeatable; None: unpredictable.
        max_batch_size: Most rows (media times draws) in one forward pass; None: all. On a CPU, 32 is faster than more.

    Raises:
        ConfigurationError: A number is out of range.
    """

    epsilon: float | None = field(kw_only=False)
    norm: Norm = "linf"
    targeted: bool = True
    num_steps: int = 100
    snapshot_steps: Sequence[int] = ()
    seed: int | None = None
    max_batch_size: int | None = 32
    # Fixed here; attacks that offer a choice declare these again.
    transform: Transform | None = field(default=None, init=False)
    num_draws: int = field(default=1, init=False)
    num_restarts: int = field(default=1, init=False)
    space: Space = field(default=PIXELS, init=False)
    window: Window | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_draws", "num_restarts", "max_batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        if any(not 1 <= step <= self.num_steps for step in self.snapshot_steps):
            raise ConfigurationError(
                f"snapshot_steps must lie in [1, {self.num_steps}], not be {list(self.snapshot_steps)}"
            )
        _ = self.ball  # checks norm and epsilon

    @property
    def ball(self) -> Ball:
        """What may change."""
        return Ball(epsilon=self.epsilon, norm=self.norm, space=self.space, window=self.window)

    @property
    def draws_per_step(self) -> int:
        """Draws of the transform per step; 1 without a transform."""
        return 1 if self.transform is None else self.num_draws

    def __call__(
        self,
        model: ChatTransformersMultimodal,
        images: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
        checkpoint: Path | None = None,
    ) -> AttackResult:
        """Attack images through a model's own image processor.

        Args:
            model: The model; its image processor must keep a gradient.
            images: Float32 (batch, 3, height, width) in [0, 1]; `UniversalPGD`: (3, height, width).
            questions: What is asked about each image.
            targets: The answer that each image should bring about, or with `targeted=False` avoid.
            progress: Called after every step.
            checkpoint: A file for the state, written every 100 steps or 60 seconds and on Ctrl-C. If it exists, the
                attack resumes from it and returns exactly what an uninterrupted run returns. It is deleted at the end.

        Returns:
            The adversarial images with their losses.

        Raises:
            ConfigurationError: Shapes or numbers are wrong, no 8-bit image lies in the ball, or the checkpoint
                belongs to other settings or inputs.
            MissingDependencyError: The model's image processor keeps no gradient; torchvision's does.
        """
        if self.space is not PIXELS:
            raise ConfigurationError(f"a call attacks images: for {self.space.name}s use `run` with an objective")
        original = self._check_images(images, questions, targets).to(model.engine.device)
        # One row per question: a single image goes with all of them.
        rows = original.expand(len(questions), -1, -1, -1)
        return self.run(
            TargetLoss(model, rows, questions, targets),
            original,
            num_rows=len(questions),
            progress=progress,
            checkpoint=checkpoint,
            inputs="" if checkpoint is None else digest_of(list(questions), list(targets), _weights_sample(model)),
        )

    @final
    def run(
        self,
        objective: Objective | Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        originals: torch.Tensor,
        *,
        progress: ProgressCallback | None = None,
        checkpoint: Path | None = None,
        keep_checkpoint: bool = False,
        num_rows: int | None = None,
        inputs: str = "",
    ) -> AttackResult:
        """Attack media of the attack's space through any objective.

        Args:
            objective: An `Objective`, or a plain function of media and rows that returns losses.
            originals: Float32 (batch, ...) in the space's bounds, on the objective's device.
            progress: Called after every step.
            checkpoint: A file for the state, as in a call.
            keep_checkpoint: At the end, save the last state instead of deleting the file: the caller deletes it when
                the result is safe.
            num_rows: How many rows the objective has; None: one per original. `UniversalPGD` takes more.
            inputs: Any text that identifies what the objective was made of: a checkpoint with another is refused.

        Returns:
            The adversarial media with their losses.

        Raises:
            ConfigurationError: Shapes or numbers are wrong, no medium that a file can hold lies in the ball, or the
                checkpoint belongs to other settings or inputs.
            AdapterError: The objective returned another shape or NaN.
        """
        original = self.space.check(originals)
        self.ball.check(original)
        generator = torch.Generator(device=original.device)
        generator.seed() if self.seed is None else generator.manual_seed(self.seed)
        problem = Problem(
            objective=objective,
            original=original.repeat(self.num_restarts, *(1 for _ in original.shape[1:])),
            num_rows=num_rows or len(original),
            generator=generator,
            ball=self.ball,
            transform=self.transform,
            max_batch_size=self.max_batch_size,
            sign=1 if self.targeted else -1,
        )
        digest = digest_of(type(self).__name__, vars(self), original, original.device.type, num_rows, inputs)
        file = Checkpoint(checkpoint, digest)
        with file.saved_when_interrupted(), getattr(objective, "frozen", nullcontext)():
            saved = file.load(original.device)
            state = self._start(problem) if saved is None else State.restore(saved, generator)
            file.complete(state.step, partial(state.dump, generator))
            self._optimise(problem, state, file, progress)
            media, loss, restart = self._finish(problem, state)
        if keep_checkpoint:
            file.save(state.dump(generator))
        else:
            file.delete()
        history = torch.stack(state.history).view(state.step, -1, len(original))
        return AttackResult(
            images=media,
            loss=loss,
            history=history[:, restart, torch.arange(len(original), device=media.device)],
            snapshots={step: state.snapshots.get(step, media) for step in self.snapshot_steps},
            num_queries=state.extra.get("num_queries"),
        )

    def _check_images(self, images: torch.Tensor, questions: Sequence[str], targets: Sequence[str]) -> torch.Tensor:
        """Return the originals of a call as a batch."""
        if images.ndim != 4 or images.shape[1] != 3 or len({len(images), len(questions), len(targets)}) != 1:
            raise ConfigurationError("expected images (batch, 3, height, width) with one question and target each")
        return self.space.check(images)

    @abstractmethod
    def _start(self, problem: Problem) -> State:
        """Return the state before the first step."""

    @abstractmethod
    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the loss at the state's point, and its gradient if the attack needs one."""

    @abstractmethod
    def _next(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        """Return the next point; it need not lie in the ball."""

    def _is_done(self, state: State) -> bool:
        """Return whether further steps cannot improve the result."""
        return False

    def _evaluations(self, problem: Problem, *, final: bool = False) -> Evaluations:
        """Return the evaluations that make up a loss: in a step, or with `final` for the choice at the end."""
        points = torch.arange(len(problem.original), device=problem.original.device)
        points = points.repeat_interleave(self.draws_per_step)
        return Evaluations(points=points, rows=points % problem.num_rows)

    def _candidates(self, problem: Problem, state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the rounded points that may be returned, with losses on the same draws, which steps do not use."""
        rounded = [problem.ball.round(each, problem.original) for each in (state.point, state.best)]
        wanted = self._evaluations(problem, final=True)
        return rounded, [problem.evaluate(each, wanted, problem.fork_generator()) for each in rounded]

    @final
    def _optimise(self, problem: Problem, state: State, file: Checkpoint, progress: ProgressCallback | None) -> None:
        started, first = time.monotonic(), state.step
        while state.step < self.num_steps and not self._is_done(state):
            loss, gradient = self._evaluate(problem, state)
            state.update(loss, problem.sign)
            state.point = problem.ball.project(self._next(problem, state, gradient), problem.original)
            if state.step in self.snapshot_steps:
                state.snapshots[state.step] = self._finish(problem, state)[0]
            file.complete(state.step, partial(state.dump, problem.generator))
            if progress is not None:
                seconds = time.monotonic() - started
                progress(
                    AttackProgress(
                        step=state.step,
                        num_steps=self.num_steps,
                        mean_loss=float(loss.mean()),
                        best_loss=problem.sign * float(state.best_loss.mean()),
                        seconds=seconds,
                        eta_seconds=seconds / (state.step - first) * (self.num_steps - state.step),
                    )
                )

    @final
    def _finish(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the best candidate for each original, checked, with its loss and the restart it came from."""
        candidates, losses = self._candidates(problem, state)
        batch = len(problem.original) // self.num_restarts
        loss = torch.stack(losses).view(-1, batch)
        winner = (problem.sign * loss).min(dim=0).indices
        indices = torch.arange(batch, device=winner.device)
        media = torch.stack(candidates).view(-1, batch, *problem.original.shape[1:])[winner, indices]
        problem.ball.verify(media, problem.original[:batch])
        return media, loss[winner, indices], winner % self.num_restarts


def _weights_sample(model: ChatTransformersMultimodal) -> list[object]:
    """Return a few values of every parameter: enough to notice that a checkpoint belongs to another model."""
    return [
        (name, (*each.shape,), each.detach().flatten()[:8].float().tolist())
        for name, each in model.hf_model.named_parameters()
    ]
