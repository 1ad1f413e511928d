"""The losses of an attack: through which guard it looks, and what input and saved file have."""

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

    from smoothguard_guardrail.cli.attack.media import InputMedium
    from smoothguard_guardrail.cli.attack.record import Settings
    from smoothguard_guardrail.core.request_perturber import GuardView
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_MEASURING = 1  # the seed's stream of the noise under which losses are compared; the attack draws from another


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Knows the loss of a medium, whatever an attack itself sees of it."""

    model: ChatTransformersMultimodal
    questions: Sequence[str]
    targets: Sequence[str]
    transform: GuardView | None
    """What the attack looks through; None: it knows no guard."""

    def objective(self, medium: InputMedium) -> TargetLoss | WaveformLoss:
        """Return the loss of media like this one, a row per prompt.

        Raises:
            ConfigurationError: The model takes no such medium, or not with such a question.
            MissingDependencyError: The model's image processor keeps no gradient.
        """
        media = medium.tensor.to(self.model.engine.device).expand(len(self.questions), *medium.tensor.shape)
        if medium.kind == "image":
            return TargetLoss(self.model, media, self.questions, self.targets)
        return WaveformLoss(self.model, media[:, 0], self.questions, self.targets)

    def losses(self, before: InputMedium, after: InputMedium, settings: Settings, history: torch.Tensor) -> Losses:
        """Measure input and saved file without the guard and, where the attack knew it, through it.

        Args:
            before: The input.
            after: The saved file, decoded.
            settings: Seed and draws, the same for both.
            history: Float (num_steps, 1), what the attack saw.
        """
        plain = [self._loss(medium, settings, None) for medium in (before, after)]
        through = [self.transform and self._loss(medium, settings, self.transform) for medium in (before, after)]
        return Losses(
            before=plain[0],
            after=plain[1],
            through_guard_before=through[0],
            through_guard_after=through[1],
            history=tuple(history.flatten().tolist()),
        )

    def _loss(self, medium: InputMedium, settings: Settings, transform: GuardView | None) -> float:
        """Return the mean over prompts and draws, nats per token."""
        device, objective = self.model.engine.device, self.objective(medium)
        rows = torch.arange(len(self.questions), device=device).repeat(settings.num_draws if transform else 1)
        generator = make_generator(settings.seed, _MEASURING, device=device)
        losses = []
        with objective.frozen(), torch.no_grad():
            for chunk in torch.split(rows, settings.max_batch_size or len(rows)):
                media = medium.tensor.to(device).expand(len(chunk), *medium.tensor.shape)
                losses.append(objective(transform(media, generator=generator) if transform else media, chunk))
        return float(torch.cat(losses).mean())
