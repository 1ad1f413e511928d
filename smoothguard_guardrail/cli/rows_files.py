"""What commands that read the user's rows share: the help of their options, and the radius of attacks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.cli._numbers import parse_epsilon
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.calibration import Rows
    from smoothguard_guardrail.evaluation.input_media import MediumKind

DATA_HELP = (
    'JSON lines: {"image": PATH, "question": ..., "answer": ...} for harmless rows,'
    ' {"image": PATH, "question": ..., "target": ...} for rows to attack. "audio" instead of "image": an audio file.'
)
EPSILON_HELP = "Radius of the attacks made here; by default 16/255 for images, 0.005 for audio samples in [-1, 1]."


def attacked_kinds(rows: Rows) -> tuple[MediumKind, ...]:
    """Return the kinds of media of the rows to attack; images, if there are none."""
    from smoothguard_guardrail.evaluation.calibration import Rows

    return Rows(harmless=(), attack=rows.attack).kinds or ("image",)


def check_attackable(rows: Rows) -> None:
    """Check that the rows to attack can be attacked here.

    Raises:
        ConfigurationError: They have images and audio, or one has no target.
    """
    if len(attacked_kinds(rows)) > 1:
        raise ConfigurationError("the rows to attack have images and audio, whose radii differ: use one kind")
    if any("target" not in item.details for item in rows.attack):
        raise ConfigurationError('every row to attack needs a "target" where attacks are made here')


def radius(epsilon: str | None, kind: MediumKind) -> float:
    """Return the radius of attacks: that of `--epsilon`, or the default for a kind of media.

    Raises:
        ConfigurationError: It is not a positive number.
    """
    from smoothguard_guardrail.cli.attack.settings import DEFAULT_EPSILON

    return parse_epsilon("--epsilon", epsilon or DEFAULT_EPSILON[kind])
