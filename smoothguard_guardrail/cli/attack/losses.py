"""The losses of input and saved file, with and without the guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks import TargetLoss
from smoothguard_guardrail.attacks.waveform import WaveformLoss
from smoothguard_guardrail.cli.attack.record import Losses
from smoothguard_guardrail.perturbations import make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks import Attack
    from smoothguard_guardrail.cli.attack.media import InputMedium
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_MEASURING = 1  # the seed's stream for measuring losses; the attack draws from another one


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMeter:
    """Measures the loss of media, independently of an attack."""

    model: ChatTransformersMultimodal
    questions: Sequence[str]
    targets: Sequence[str]

    def objective(self, medium: InputMedium) -> TargetLoss | WaveformLoss:
        """Return the loss of media like this one, one row per prompt.

        Raises:
            ConfigurationError: The model does not take such a medium, or not with such a question.
            MissingDependencyError: The model's image processor keeps no gradient.
        """
        media = medium.tensor.to(self.model.engine.device).expand(len(self.questions), *medium.tensor.shape)
        if medium.kind == "image":
            return TargetLoss(self.model, media, self.questions, self.targets)
        return WaveformLoss(self.model, media[:, 0], self.questions, self.targets)

    def losses(self, before: InputMedium, after: InputMedium, attack: Attack, history: torch.Tensor) -> Losses:
        """Measure input and decoded saved file, without the guard and, if the attack used it, through it.

        Args:
            before: The input.
            after: The saved file, decoded.
            attack: Its seed, transform and draws are used for both.
            history: Float (num_steps, 1), the losses during the attack.
        """
        through = attack.transform is not None
        return Losses(
            before=self._loss(before, attack),
            after=self._loss(after, attack),
            through_guard_before=self._loss(before, attack, through=True) if through else None,
            through_guard_after=self._loss(after, attack, through=True) if through else None,
            history=tuple(history.flatten().tolist()),
        )

    def _loss(self, medium: InputMedium, attack: Attack, *, through: bool = False) -> float:
        """Return the mean over prompts and draws, nats per token."""
        device, objective = self.model.engine.device, self.objective(medium)
        rows = torch.arange(len(self.questions), device=device).repeat(attack.draws_per_step if through else 1)
        generator = make_generator(attack.seed or 0, _MEASURING, device=device)
        losses = []
        with objective.frozen(), torch.no_grad():
            for chunk in torch.split(rows, attack.max_batch_size or len(rows)):
                media = medium.tensor.to(device).expand(len(chunk), *medium.tensor.shape)
                if through and attack.transform is not None:
                    media = attack.transform(media, generator=generator)
                losses.append(objective(media, chunk))
        return float(torch.cat(losses).mean())
