"""The configuration that a command's `--preset` or `--config` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from smoothguard_guardrail.config import SmoothGuardConfig

Preset = Literal["default", "paper", "reference", "text_safe", "speech"]
HELP = (
    "`reference` (shipped model), `text_safe` (documents and screens), `speech` (recordings), `paper` (the published "
    "rule) or `default`."
)
CONFIG_HELP = "JSON or TOML file of settings instead of a preset, such as `smoothguard calibrate` writes."


def chosen_config(
    model: str, preset: Preset | None = None, file: Path | None = None, **changes: Any
) -> SmoothGuardConfig:
    """Return the configuration of a file or a preset, with some settings changed.

    Without either it is the model's preset: `reference` for the shipped model, `default` for any other.

    Args:
        model: Name of the model.
        preset: Name of a preset.
        file: A JSON or TOML file of settings.
        **changes: Settings, or mappings of a group's settings; those that are None stay as they are.

    Raises:
        ConfigurationError: If both a preset and a file are given, the file cannot be read, or a setting is invalid.
    """
    from smoothguard_guardrail.config import SmoothGuardConfig

    changes = merged(changes)
    if file is not None:
        if preset is not None:
            raise ConfigurationError("expected --config or --preset, not both")
        return SmoothGuardConfig.from_file(file, **changes)
    preset = preset or ("reference" if model == "reference" else "default")
    if preset == "default":
        return SmoothGuardConfig().override(**changes)
    chosen: SmoothGuardConfig = getattr(SmoothGuardConfig, preset)(**changes)
    return chosen


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of several origins in one; later ones win, setting by setting. None means: not given.

    Example:
        >>> merged({"seed": 1, "vote": {"rule": "mean", "min_agreement": 0.6}}, {"seed": None, "vote": {"rule": "x"}})
        {'seed': 1, 'vote': {'rule': 'x', 'min_agreement': 0.6}}
    """
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, dict):
                earlier = found.get(name)
                found[name] = merged(earlier if isinstance(earlier, dict) else {}, value)
            elif value is not None:
                found[name] = value
    return {name: value for name, value in found.items() if value != {}}
