"""The settings that the page offers, and the configuration that they make."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.config import SmoothGuardConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """What can be changed on the page; the first three only change the vote."""

    num_samples: int
    benign_preference: float
    """`vote.refusal_share`, or with the rule `sentiment` `vote.benign_weight`."""
    min_agreement: float
    sigma: float
    max_shift: int
    include_clean: bool
    asks_all: bool
    """Whether all samples are asked for, so that any vote can be replayed, instead of stopping early."""

    @classmethod
    def of(cls, config: SmoothGuardConfig) -> Self:
        """Return a configuration's settings; all samples are asked for."""
        vote = config.vote
        return cls(
            num_samples=config.num_samples,
            benign_preference=vote.refusal_share if vote.rule == "stance" else vote.benign_weight,
            min_agreement=vote.min_agreement,
            sigma=config.sigma,
            max_shift=config.image.max_shift,
            include_clean=config.include_clean,
            asks_all=True,
        )

    @classmethod
    def read(cls, values: Sequence[Any]) -> Self:
        """Return the settings from values in the order of the fields."""
        return cls(**dict(zip((field.name for field in fields(cls)), values, strict=True)))

    def values(self) -> tuple[Any, ...]:
        """Return the values in the order of the fields."""
        return astuple(self)

    def apply(self, config: SmoothGuardConfig) -> SmoothGuardConfig:
        """Return a configuration with these settings.

        Raises:
            ConfigurationError: They exclude each other.
        """
        preference = "refusal_share" if config.vote.rule == "stance" else "benign_weight"
        return config.override(
            num_samples=int(self.num_samples),
            sigma=self.sigma,
            include_clean=self.include_clean,
            early_stop=None if self.asks_all else config.early_stop or "lossless",
            image={"max_shift": int(self.max_shift)},
            vote={preference: self.benign_preference, "min_agreement": self.min_agreement},
        )
