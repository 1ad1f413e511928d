"""The `--settings` file of a command: rarely used settings as TOML; the command line wins."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

S = TypeVar("S", bound=BaseModel)


def load_settings(
    model: type[S], path: Path | None, options: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> tuple[S, dict[str, Any]]:
    """Return the settings of a TOML file and the command line, which wins, and the file's `[guard]` table.

    Args:
        model: What the settings are validated as.
        path: The file; None: there is none.
        options: Settings from the command line; None: not given.
        defaults: Settings that count where neither has one.

    Raises:
        ConfigurationError: The file cannot be read, or a key is unknown or its value invalid; names it.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigurationError(f"{path}: expected TOML: {error}") from error
    guard = table.pop("guard", {})
    if not isinstance(guard, dict):
        raise ConfigurationError(f"{path}: expected guard to be a table of the guard's settings, got {guard!r}")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return model.model_validate({**(defaults or {}), **table, **given}), guard
    except ValidationError as error:
        raise ConfigurationError("; ".join(_problem(each, model, path, given) for each in error.errors())) from None


def _problem(error: Any, model: type[BaseModel], path: Path | None, given: Mapping[str, Any]) -> str:
    """Describe one of pydantic's errors: the file if it is there, the setting, what was expected and what came."""
    name = ".".join(map(str, error["loc"]))
    where = "" if path is None or (error["loc"] and error["loc"][0] in given) else f"{path}: "
    if error["type"] == "extra_forbidden":
        known = f"; known are {', '.join(model.model_fields)} and guard" if len(error["loc"]) == 1 else ""
        return f"{where}unknown setting {name!r}{known}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}{name}: {message}, got {error['input']!r}" if name else f"{where}{message}"
