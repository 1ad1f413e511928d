"""Configurations by name, as commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.config import SmoothGuardConfig

Preset = Literal["default", "paper", "calibrated"]
HELP = "`calibrated` (for the shipped model), `paper` (the published rule) or `default`."
CONFIG_HELP = "JSON file of knobs in place of a preset, as `smoothguard calibrate` writes it."


def chosen_config(model: str, preset: Preset | None, file: Path | None, **knobs: Any) -> SmoothGuardConfig:
    """Return the configuration of a file or preset, whichever is given, with some knobs changed.

    With neither it is the preset for the model: `calibrated` for the shipped one, `default` for every other.

    Raises:
        ConfigurationError: If both are given, the file cannot be read, or the result makes no sense.
    """
    if file is None:
        return preset_config(preset or ("calibrated" if model == "reference" else "default"), **knobs)
    if preset is not None:
        raise ConfigurationError("give --config or --preset, not both")
    return read_config(file, **knobs)


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


def read_config(path: Path, **knobs: Any) -> SmoothGuardConfig:
    """Read a configuration from a JSON file of its knobs, with some changed; those that are None stay as in the file.

    Raises:
        ConfigurationError: If the file cannot be read, is no JSON object, or makes no sense; names the file.
    """
    import json

    from smoothguard_guardrail.config import SmoothGuardConfig

    changes = {name: value for name, value in knobs.items() if value is not None}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f'{path} has to hold an object of knobs, as {{"sigma": 0.2}}')
    try:
        return SmoothGuardConfig(**values | changes)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
