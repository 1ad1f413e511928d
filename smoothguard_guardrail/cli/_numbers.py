"""Numbers on the command line: fractions such as `16/255`."""

from __future__ import annotations

import math

from smoothguard_guardrail.errors import ConfigurationError


def parse_number(name: str, text: str) -> float:
    """Read a fraction such as `16/255`, or a number such as `0.06`.

    Args:
        name: What the number is for, such as `--epsilon`; named in errors.
        text: The fraction or number.

    Raises:
        ConfigurationError: It is neither, or not finite.

    Example:
        >>> parse_number("--epsilon", "51/255"), parse_number("--epsilon", "0.05")
        (0.2, 0.05)
    """
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{name} must be a number such as 0.06 or a fraction such as 16/255, not {text!r}")
    return value


def parse_epsilon(name: str, text: str) -> float:
    """Read the L-infinity radius of an attack on values in [0, 1], such as `16/255`.

    Raises:
        ConfigurationError: It is not a number in (0, 1].
    """
    value = parse_number(name, text)
    if not 0 < value <= 1:
        raise ConfigurationError(f"{name} must lie in (0, 1], not be {text}: 16 levels of an image are 16/255")
    return value
