"""PGD through a random defence."""

from __future__ import annotations

from dataclasses import dataclass, field

from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.problem import Transform
from smoothguard_guardrail.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, eq=False)
class EOTPGD(PGD):
    """PGD against a random defence: each gradient is the mean over draws of what the defence does.

    Source: Athalye et al., arXiv 1707.07397, equation 2.

    Also takes the settings of `PGD`.

    Args:
        transform: What the defence does: any `Perturber`, such as the guard's own.
        num_draws: Draws of the transform per step.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> from smoothguard_guardrail.perturbations import GaussianNoise
        >>> EOTPGD(16 / 255, GaussianNoise(0.1), num_steps=200).num_draws
        16
    """

    transform: Transform = field(kw_only=False)
    num_draws: int = 16

    def __post_init__(self) -> None:
        if not callable(self.transform):
            raise ConfigurationError("expected a transform, called with (images, generator=...)")
        super().__post_init__()
