"""What all attacks share: the walk, the bound, and what comes back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, final

import torch

from smoothguard_guardrail.attacks.ball import Ball, Norm
from smoothguard_guardrail.attacks.checkpoint import Checkpoint, fingerprint
from smoothguard_guardrail.attacks.objective import TargetLoss
from smoothguard_guardrail.attacks.problem import Asked, Objective, Problem, State, Transform
from smoothguard_guardrail.attacks.result import AttackResult, Progress, ProgressCallback
from smoothguard_guardrail.attacks.space import PIXELS, SLACK, Space
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

__all__ = ["Attack", "AttackResult", "Norm", "Objective", "Progress", "Transform"]


class Attack(ABC):
    """An attack on a batch of media: walk, round to what a file can hold, check the bound.

    A subclass says where to start (`_begin`), how to evaluate a point (`_evaluate`) and where to go next (`_move`).
    Whatever it does, the media that come back lie on the space's levels and within epsilon of their originals, or
    there is an error. A call attacks pictures; `run` takes any objective and media of the attack's space.

    Args:
        epsilon: Radius of the ball around each original, in units of the space's values (pictures: [0, 1]): the
            greatest change of one value (`linf`), or the Euclidean norm of the whole change (`l2`). None: only the
            space's bounds hold.
        norm: `linf` or `l2`.
        targeted: Whether the targets are wanted (their loss is minimised) or to be left (it is maximised).
        num_steps: Steps at most.
        snapshot_steps: After how many steps to keep what would be returned then. The walk does not change.
        seed: Makes everything that is drawn repeatable; None: unpredictable.
        transform: What the defence does, to attack the model behind it; None: the bare model.
        num_draws: Draws of the transform per step.
        max_batch_size: Most rows (media times draws) in one forward pass; None: all.
        space: What is attacked: `PIXELS` or `WAVEFORM`.

    Raises:
        ConfigurationError: A number is out of range.
    """

    num_restarts: int = 1

    def __init__(
        self,
        epsilon: float | None,
        *,
        norm: Norm = "linf",
        targeted: bool = True,
        num_steps: int = 100,
        snapshot_steps: Sequence[int] = (),
        seed: int | None = None,
        transform: Transform | None = None,
        num_draws: int = 1,
        max_batch_size: int | None = 32,
        space: Space = PIXELS,
    ) -> None:
        if num_steps < 1 or num_draws < 1 or (max_batch_size is not None and max_batch_size < 1):
            raise ConfigurationError("num_steps, num_draws and max_batch_size have to be at least 1")
        if any(not 1 <= step <= num_steps for step in snapshot_steps):
            raise ConfigurationError(f"snapshot_steps have to lie in [1, {num_steps}], not be {list(snapshot_steps)}")
        self._ball = Ball(epsilon=epsilon, norm=norm, space=space)
        self.epsilon = epsilon
        self.norm = norm
        self.targeted = targeted
        self.num_steps = num_steps
        self.snapshot_steps = tuple(snapshot_steps)
        self.seed = seed
        self.transform = transform
        self.num_draws = num_draws if transform is not None else 1
        self.max_batch_size = max_batch_size
        self.space = space

    @final
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
        """Attack pictures through a model's own image processor.

        Args:
            model: The model, whose image processor has to keep a gradient.
            images: Float32 (batch, 3, height, width) in [0, 1]; `UniversalPGD`: (3, height, width).
            questions: What is asked about each picture.
            targets: The answer that each picture shall bring about, or with `targeted=False` not bring about.
            progress: Called after every step.
            checkpoint: A file for the state, written every 100 steps or 60 seconds. If it exists already, the attack
                goes on from it, to the very same result. It is deleted at the end.

        Returns:
            The adversarial pictures with their losses.

        Raises:
            ConfigurationError: Shapes or numbers do not fit, no 8-bit picture lies in the ball, or the checkpoint is
                of other settings or inputs.
            MissingDependencyError: The model's image processor keeps no graph; torchvision's does.
        """
        if self.space is not PIXELS:
            raise ConfigurationError(f"this call attacks pictures: for {self.space.name}s use `run` with an objective")
        original = self._pictures(images, questions, targets).to(model.engine.device)
        # One row per question: a single picture goes with all of them.
        rows = original.expand(len(questions), -1, -1, -1)
        inputs = "" if checkpoint is None else fingerprint(list(questions), list(targets), *_glimpse(model))
        return self.run(
            TargetLoss(model, rows, questions, targets),
            original,
            num_rows=len(questions),
            progress=progress,
            checkpoint=checkpoint,
            inputs=inputs,
        )

    @final
    def run(
        self,
        objective: Objective | Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        originals: torch.Tensor,
        *,
        progress: ProgressCallback | None = None,
        checkpoint: Path | None = None,
        num_rows: int | None = None,
        inputs: str = "",
    ) -> AttackResult:
        """Attack media of the attack's space through any objective.

        Args:
            objective: Called with media, float32 (num_rows, ...), and rows, int64 (num_rows,), which say to which
                original each belongs; returns losses (num_rows,). A plain function fits.
            originals: Float32 (batch, ...) in the space's bounds, on the device where the objective works.
            progress: Called after every step.
            checkpoint: A file for the state, as in a call.
            num_rows: How many rows the objective knows; None: one per original. More than that is for `UniversalPGD`.
            inputs: What the objective was made of, in any words: a checkpoint with other words is refused.

        Returns:
            The adversarial media with their losses.

        Raises:
            ConfigurationError: Shapes or numbers do not fit, no medium that a file can hold lies in the ball, or the
                checkpoint is of other settings or inputs.
            AdapterError: The objective returned another shape or what is no number.
        """
        original = self.space.check(originals)
        self._ball.check(original)
        generator = torch.Generator(device=original.device)
        generator.seed() if self.seed is None else generator.manual_seed(self.seed)
        problem = Problem(
            objective=objective,
            original=original.repeat(self.num_restarts, *(1 for _ in original.shape[1:])),
            num_rows=num_rows or len(original),
            generator=generator,
            ball=self._ball,
            transform=self.transform,
            max_batch_size=self.max_batch_size,
            sign=1 if self.targeted else -1,
        )
        identity = fingerprint(type(self).__name__, vars(self), original, original.device.type, num_rows, inputs)
        file = Checkpoint(checkpoint, identity)
        with getattr(objective, "frozen", nullcontext)():
            saved = file.load(original.device)
            state = self._begin(problem) if saved is None else State.restore(saved, generator)
            self._walk(problem, state, file, progress)
            media, loss, restart = self._settle(problem, state)
        file.remove()
        history = torch.stack(state.history).view(state.step, -1, len(original))
        return AttackResult(
            images=media,
            loss=loss,
            history=history[:, restart, torch.arange(len(original), device=media.device)],
            snapshots={step: state.snapshots.get(step, media) for step in self.snapshot_steps},
            num_queries=state.kept.get("num_queries"),
        )

    def _pictures(self, images: torch.Tensor, questions: Sequence[str], targets: Sequence[str]) -> torch.Tensor:
        """Return the originals of a call as a batch."""
        if images.ndim != 4 or images.shape[1] != 3 or len({len(images), len(questions), len(targets)}) != 1:
            raise ConfigurationError("images have to be (batch, 3, height, width), one question and target each")
        return self.space.check(images)

    @abstractmethod
    def _begin(self, problem: Problem) -> State:
        """Return where the walk starts."""

    @abstractmethod
    def _evaluate(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the loss at the state's point, and its gradient where the attack needs one."""

    @abstractmethod
    def _move(self, problem: Problem, state: State, gradient: torch.Tensor | None) -> torch.Tensor:
        """Return the next point, which need not lie in the ball."""

    def _is_done(self, state: State) -> bool:
        """Return whether nothing is left to gain."""
        return False

    def _asked(self, problem: Problem, *, judging: bool = False) -> Asked:
        """Return which evaluations make up a loss, in a step or, with `judging`, for the choice at the end."""
        points = torch.arange(len(problem.original), device=problem.original.device)
        points = points.repeat_interleave(self.num_draws)
        return Asked(points=points, rows=points % problem.num_rows)

    def _candidates(self, problem: Problem, state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Round the points that may be returned; evaluate them on the same draws, which the walk does not use up."""
        rounded = [self._ball.round(each, problem.original) for each in (state.point, state.best)]
        asked = self._asked(problem, judging=True)
        return rounded, [problem.evaluate(each, asked, problem.fork()) for each in rounded]

    @final
    def _walk(self, problem: Problem, state: State, file: Checkpoint, progress: ProgressCallback | None) -> None:
        began, first = time.monotonic(), state.step
        while state.step < self.num_steps and not self._is_done(state):
            loss, gradient = self._evaluate(problem, state)
            state.note(loss, problem.sign)
            state.point = self._ball.project(self._move(problem, state, gradient), problem.original)
            if state.step in self.snapshot_steps:
                state.snapshots[state.step] = self._settle(problem, state)[0]
            if file.is_due(state.step):
                file.save(state.dump(problem.generator))
            if progress is not None:
                seconds = time.monotonic() - began
                progress(
                    Progress(
                        step=state.step,
                        num_steps=self.num_steps,
                        mean_loss=float(loss.mean()),
                        best_loss=problem.sign * float(state.best_loss.mean()),
                        seconds=seconds,
                        eta_seconds=seconds / (state.step - first) * (self.num_steps - state.step),
                    )
                )

    @final
    def _settle(self, problem: Problem, state: State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the best candidate of each original, checked, with its loss and the restart that it came from."""
        candidates, losses = self._candidates(problem, state)
        batch = len(problem.original) // self.num_restarts
        loss = torch.stack(losses).view(-1, batch)
        winner = (problem.sign * loss).min(dim=0).indices
        every = torch.arange(batch, device=winner.device)
        media = torch.stack(candidates).view(-1, batch, *problem.original.shape[1:])[winner, every]
        self._check(media, problem.original[:batch])
        return media, loss[winner, every], winner % self.num_restarts

    @final
    def _check(self, media: torch.Tensor, original: torch.Tensor) -> None:
        """Raise unless the media are what the attack promises, whatever a subclass did."""
        levels = self.space.levels(media)
        on_levels = (levels - levels.round()).abs() <= SLACK
        in_bounds = (levels >= -SLACK) & (levels <= self.space.num_levels - 1 + SLACK)
        if not (on_levels & in_bounds).all():
            raise AdapterError(f"the attack made values that no file of a {self.space.name} can hold")
        if self.epsilon is not None:
            distance = self._ball.distance(media, original)
            if not (distance <= self.epsilon + self._ball.tolerance).all():
                raise AdapterError(f"the attack left its ball: {float(distance.max())} is more than {self.epsilon}")


def _glimpse(model: ChatTransformersMultimodal) -> list[object]:
    """Return a little of every parameter: enough to tell that a checkpoint is of another model."""
    return [
        (name, (*each.shape,), each.detach().flatten()[:8].float().tolist())
        for name, each in model.hf_model.named_parameters()
    ]
