"""The table `attack` in the settings of commands that attack images on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.attacked_images import AttackSettings


class AttackOptions(Record):
    """How images are attacked; see `AttackSettings`."""

    num_steps: int = Field(default=100, ge=1)
    """Gradient steps."""
    num_draws: int = Field(default=16, ge=1)
    """Draws of the guard's perturbation per step, where the attack goes through it."""
    target: str | None = None
    """The answer to bring about; None: the item's own target, or away from the model's answer."""
    step_size: float | None = Field(default=None, gt=0)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    step_decay: bool = False
    random_start: bool = False

    def settings(self, epsilon: float, *, through: SmoothGuardConfig | None = None, seed: int = 0) -> AttackSettings:
        """Return the attack of this radius."""
        from smoothguard_guardrail.evaluation.attacked_images import AttackSettings

        return AttackSettings(epsilon=epsilon, through=through, seed=seed, **self.model_dump())
