"""The losses of input and saved file, with and without the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks import TargetLoss, WaveformLoss
from smoothguard_guardrail.perturbations import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks import Attack, Transform
    from smoothguard_guardrail.evaluation.input_media import InputMedium
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_MEASURING = 1  # the seed's stream for measuring losses; the attack draws from another one


def make_objective(
    model: ChatTransformersMultimodal, medium: InputMedium, questions: Sequence[str], targets: Sequence[str]
) -> TargetLoss | WaveformLoss:
    """Return the loss of media of this kind and shape, one row per prompt.

    Raises:
        ConfigurationError: The model does not take such a medium, or not with such a question.
        MissingDependencyError: The model's image processor keeps no gradient.
    """
    media = medium.tensor.to(model.engine.device).expand(len(questions), *medium.tensor.shape)
    if medium.kind == "image":
        return TargetLoss(model, media, questions, targets)
    return WaveformLoss(model, media[:, 0], questions, targets)


def measure(
    objective: TargetLoss | WaveformLoss, media: Sequence[torch.Tensor], num_rows: int, attack: Attack
) -> dict[str, float]:
    """Measure mean losses without the guard and, if the attack uses it, through it.

    Args:
        objective: The loss.
        media: Input and decoded saved file, on the objective's device.
        num_rows: How many rows the objective has.
        attack: Its seed, transform and number of draws are used for both media.

    Returns:
        Fields of `Losses`, nats per token.
    """

    def mean_loss(medium: torch.Tensor, transform: Transform | None) -> float:
        rows = torch.arange(num_rows, device=medium.device).repeat(attack.draws_per_step if transform else 1)
        generator = make_generator(attack.seed or 0, _MEASURING, device=medium.device)
        losses = []
        for chunk in torch.split(rows, attack.max_batch_size or len(rows)):
            batch = medium.expand(len(chunk), *medium.shape)
            losses.append(objective(transform(batch, generator=generator) if transform else batch, chunk))
        return float(torch.cat(losses).mean())

    transforms = {"": None} if attack.transform is None else {"": None, "through_guard_": attack.transform}
    with objective.frozen(), torch.no_grad():
        return {
            f"{prefix}{when}": mean_loss(medium, transform)
            for prefix, transform in transforms.items()
            for when, medium in zip(("before", "after"), media, strict=True)
        }
