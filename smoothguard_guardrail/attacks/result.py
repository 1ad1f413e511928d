"""What an attack returns, and what it reports after every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """Adversarial media.

    Attributes:
        images: Float32 (batch, 3, height, width), exact multiples of 1/255, within epsilon of the originals. In
            another space: a batch of its media, on its levels.
        loss: Float32 (batch,): loss of these media under the evaluation transform, nats per target token.
        history: Float32 (steps taken, batch): loss before each step, of the restart that won.
        snapshots: What the attack would have returned after each of its `snapshot_steps`.
        num_queries: Int64 (batch,): how often the model was asked about each medium; None for attacks that do not
            count queries, such as those with gradients.
    """

    images: torch.Tensor
    loss: torch.Tensor
    history: torch.Tensor
    snapshots: dict[int, torch.Tensor] = field(default_factory=dict)
    num_queries: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackProgress:
    """How far an attack has come.

    Attributes:
        step: Steps taken.
        num_steps: Steps to take at most.
        mean_loss: Mean over the batch of the loss before the last step, nats per target token.
        best_loss: Mean over the batch of the best loss so far.
        seconds: Time since this run started, or since it resumed from a checkpoint.
        eta_seconds: Time that the remaining steps would take at this pace.
    """

    step: int
    num_steps: int
    mean_loss: float
    best_loss: float
    seconds: float
    eta_seconds: float


ProgressCallback: TypeAlias = Callable[[AttackProgress], None]
