"""Configurations by name, as commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig

Preset = Literal["default", "paper", "calibrated"]
HELP = "`calibrated` (for the shipped model), `paper` (the published rule) or `default`."


def preset_config(preset: Preset, **knobs: Any) -> SmoothGuardConfig:
    """Return a preset with some knobs changed; those that are None stay as the preset has them.

    Raises:
        ConfigurationError: If the result makes no sense.
    """
    from smoothguard_guardrail.config import SmoothGuardConfig

    changes = {name: value for name, value in knobs.items() if value is not None}
    if preset == "paper":
        return SmoothGuardConfig.paper(**changes)
    if preset == "calibrated":
        return SmoothGuardConfig.calibrated("reference", **changes)
    return SmoothGuardConfig(**changes)
