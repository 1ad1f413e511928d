"""What commands that read the user's rows share: the help of their options, and the radius of attacks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.cli._numbers import parse_epsilon
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.evaluation.input_media import MediumKind
    from smoothguard_guardrail.evaluation.items import Item

DATA_HELP = (
    'JSON lines: {"image": PATH, "question": ..., "answer": ...} for harmless rows,'
    ' {"image": PATH, "question": ..., "target": ...} for rows to attack. "audio" instead of "image": an audio file.'
)
EPSILON_HELP = "Radius of the attacks made here; by default 16/255 for images, 0.005 for audio samples in [-1, 1]."


def kind_of(items: Sequence[Item]) -> MediumKind:
    """Return the one kind of media of rows to attack.

    Raises:
        ConfigurationError: They have images and audio.
    """
    from smoothguard_guardrail.evaluation.calibration import Rows

    kinds = Rows(harmless=(), attack=tuple(items)).kinds
    if len(kinds) != 1:
        raise ConfigurationError("expected rows to attack with one kind of media: images and audio differ in epsilon")
    return kinds[0]


def radius(epsilon: str | None, kind: MediumKind) -> float:
    """Return the radius of attacks: that of `--epsilon`, or the default for a kind of media.

    Raises:
        ConfigurationError: It is not a positive number.
    """
    from smoothguard_guardrail.cli.attack.settings import DEFAULT_EPSILON

    return parse_epsilon("--epsilon", epsilon or DEFAULT_EPSILON[kind])
