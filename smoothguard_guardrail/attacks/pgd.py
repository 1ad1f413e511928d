"""Projected gradient descent on a picture, towards a wanted answer, within an L-infinity ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from smoothguard_guardrail.attacks.objective import TargetLoss
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

_LEVELS = 255
_SLACK = 1e-4  # in 8-bit levels: float32 keeps a 255th to about 1e-5 of one


class Transform(Protocol):
    """What a defence does to pictures before the model sees them: random, and differentiable in the pictures.

    Called with float32 (num_rows, 3, height, width) in [0, 1] and a generator on the same device; returns the
    same shape.
    """

    def __call__(self, images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        """Return what the model would see."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """Adversarial pictures.

    Attributes:
        images: Float32 (batch, 3, height, width), exact multiples of 1/255, within epsilon of the originals.
        loss: Float32 (batch,): loss of these pictures under the evaluation transform, nats per target token.
        history: Float32 (num_steps, batch): loss before each step.
    """

    images: torch.Tensor
    loss: torch.Tensor
    history: torch.Tensor


class PGD:
    """Targeted PGD with momentum, in pixel space, through the model's own image processor.

    Each step moves every pixel by `step_size` along the sign of the accumulated gradient (each gradient divided
    by its mean absolute value), then projects onto the ball and [0, 1]. With a `transform` the gradient is that
    of the mean loss over `num_draws` draws (expectation over transformation). The pictures that come back are
    8-bit: rounding happens inside the ball.

    Source: Madry et al., arXiv 1706.06083, section 2.1; momentum: Dong et al., arXiv 1710.06081, equation 6;
    expectation over transformation: Athalye et al., arXiv 1707.07397.

    Args:
        epsilon: Radius in L-infinity, of values in [0, 1], such as 16/255.
        step_size: Length of a step, of values in [0, 1]; None: `epsilon / 4`, more where
            there are fewer than four steps.
        num_steps: Gradient steps.
        momentum: Share of the accumulated gradient that is kept; 0: none.
        random_start: Start at a random point of the ball instead of the original.
        seed: Makes random start and draws repeatable; None: unpredictable.
        transform: What the defence does, to attack the model behind it; None: the bare model.
        num_draws: Draws of the transform per step.
        max_batch_size: Most rows (pictures times draws) in one forward pass; None: all. On a CPU 32 is
            faster than more.

    Raises:
        ConfigurationError: A number is out of range.

    Example:
        >>> attack = PGD(epsilon=16 / 255, num_steps=100, seed=0)
        >>> result = attack(model, images, questions, targets)  # doctest: +SKIP
    """

    def __init__(
        self,
        epsilon: float,
        step_size: float | None = None,
        num_steps: int = 100,
        momentum: float = 0.5,
        *,
        random_start: bool = False,
        seed: int | None = None,
        transform: Transform | None = None,
        num_draws: int = 1,
        max_batch_size: int | None = 32,
    ) -> None:
        if not 0 < epsilon <= 1:
            raise ConfigurationError(f"epsilon has to lie in (0, 1], not be {epsilon}")
        if step_size is not None and step_size <= 0:
            raise ConfigurationError(f"step_size has to be positive, not {step_size}")
        if num_steps < 1 or num_draws < 1 or (max_batch_size is not None and max_batch_size < 1):
            raise ConfigurationError("num_steps, num_draws and max_batch_size have to be at least 1")
        if not 0 <= momentum < 1:
            raise ConfigurationError(f"momentum has to lie in [0, 1), not be {momentum}")
        self.epsilon = epsilon
        self.step_size = epsilon / min(4, num_steps) if step_size is None else step_size
        self.num_steps = num_steps
        self.momentum = momentum
        self.random_start = random_start
        self.seed = seed
        self.transform = transform
        self.num_draws = num_draws if transform is not None else 1
        self.max_batch_size = max_batch_size

    def __call__(
        self,
        model: ChatTransformersMultimodal,
        images: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> AttackResult:
        """Attack a batch of pictures.

        Args:
            model: The model, whose image processor has to keep a gradient.
            images: Float32 (batch, 3, height, width) in [0, 1].
            questions: What is asked about each picture.
            targets: The answer that each picture shall bring about.

        Returns:
            The adversarial pictures with their losses.

        Raises:
            ConfigurationError: Shapes or numbers do not fit, or no 8-bit picture lies in the ball.
            MissingDependencyError: The model's image processor keeps no graph; torchvision's does.
        """
        if images.ndim != 4 or images.shape[1] != 3 or len({len(images), len(questions), len(targets)}) != 1:
            raise ConfigurationError("images have to be (batch, 3, height, width), one question and target each")
        original = images.detach().to(model.engine.device, torch.float32)
        _check_ball(original, self.epsilon)
        generator = torch.Generator(device=original.device)
        generator.seed() if self.seed is None else generator.manual_seed(self.seed)
        objective = TargetLoss(model, original, questions, targets)
        with objective.frozen():
            candidates, history = self._search(objective, original, generator)
            found, loss = self._choose(objective, original, candidates, generator)
        return AttackResult(images=found, loss=loss, history=history)

    def _search(
        self, objective: TargetLoss, original: torch.Tensor, generator: torch.Generator
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Walk; returns the last point and the best one, and the loss before each step."""
        point = original.clone()
        if self.random_start:
            noise = torch.rand(original.shape, generator=generator, device=original.device)
            point = self._project(point + (2 * noise - 1) * self.epsilon, original)
        best, best_loss = point, torch.full((len(point),), torch.inf, device=point.device)
        velocity = torch.zeros_like(point)
        history = []
        for _ in range(self.num_steps):
            loss, gradient = self._gradient(objective, point, generator)
            better = loss < best_loss
            best = torch.where(better[:, None, None, None], point, best)
            best_loss = torch.where(better, loss, best_loss)
            history.append(loss)
            point, velocity = self._step(point, gradient, velocity)
            point = self._project(point, original)
        return [point, best], torch.stack(history)

    def _step(
        self, point: torch.Tensor, gradient: torch.Tensor, velocity: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step down; returns the new point, not yet projected, and the new velocity."""
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        velocity = self.momentum * velocity + gradient / size
        return point - self.step_size * velocity.sign(), velocity

    def _project(self, point: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        return original + (point.clamp(0, 1) - original).clamp(-self.epsilon, self.epsilon)

    def _gradient(
        self, objective: TargetLoss, point: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss over the draws (batch,), and its gradient in the pictures."""
        point = point.detach().requires_grad_()
        total = torch.zeros(len(point), device=point.device)
        gradient = torch.zeros_like(point)
        for rows in self._chunks(point):
            losses = self._losses(objective, point, rows, generator)
            gradient += torch.autograd.grad(losses.sum(), point)[0] / self.num_draws
            total.index_add_(0, rows, losses.detach() / self.num_draws)
        return total, gradient

    def _choose(
        self,
        objective: TargetLoss,
        original: torch.Tensor,
        candidates: Sequence[torch.Tensor],
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Round every candidate within the ball and take the best of each picture, on the same draws."""
        state = generator.get_state()
        rounded = [round_within(candidate, original, self.epsilon) for candidate in candidates]
        losses = []
        for candidate in rounded:
            generator.set_state(state)
            total = torch.zeros(len(original), device=original.device)
            with torch.no_grad():
                for rows in self._chunks(candidate):
                    drawn = self._losses(objective, candidate, rows, generator)
                    total.index_add_(0, rows, drawn / self.num_draws)
            losses.append(total)
        loss, winner = torch.stack(losses).min(dim=0)
        every = torch.arange(len(original), device=original.device)
        return torch.stack(rounded)[winner, every], loss

    def _losses(
        self, objective: TargetLoss, point: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        seen = point if self.transform is None and len(rows) == len(point) else point[rows]
        if self.transform is not None:
            seen = self.transform(seen, generator=generator)
        return objective(seen, rows)

    def _chunks(self, point: torch.Tensor) -> Sequence[torch.Tensor]:
        rows = torch.arange(len(point), device=point.device).repeat_interleave(self.num_draws)
        size = self.max_batch_size or len(rows)
        return [rows[start : start + size] for start in range(0, len(rows), size)]


def round_within(images: torch.Tensor, original: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Round pictures to 8 bits without leaving the ball around the original.

    Args:
        images: Float32 (batch, 3, height, width).
        original: The centre of the ball, same shape, in [0, 1].
        epsilon: Its radius in L-infinity.

    Returns:
        Float32 multiples of 1/255 in [0, 1], at most epsilon away from the original.

    Raises:
        ConfigurationError: No 8-bit picture lies in the ball.
    """
    low, high = _check_ball(original, epsilon)
    levels = (images.double() * _LEVELS).round()
    return (levels.clamp(low, high) / _LEVELS).to(original.dtype)


def _check_ball(original: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest 8-bit level of each pixel within the ball, as whole float64 numbers."""
    centre = original.double() * _LEVELS
    low = (centre - epsilon * _LEVELS - _SLACK).ceil().clamp(0, _LEVELS)
    high = (centre + epsilon * _LEVELS + _SLACK).floor().clamp(0, _LEVELS)
    if (low > high).any():
        raise ConfigurationError("no 8-bit picture lies within epsilon: round the pictures to 8 bits first")
    return low, high
