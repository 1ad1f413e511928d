"""What was measured of the model alone and of every candidate."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.input_media import MediumKind
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate

HARMLESS, UNATTACKED, CONTROL = "harmless", "unattacked", "random signs"
GIVEN, ATTACKED, ADAPTIVE = "given", "attacked", "adaptive"
ARMS = (HARMLESS, UNATTACKED, CONTROL, GIVEN, ATTACKED, ADAPTIVE)
"""Harmless rows; rows to attack, unchanged and under random signs of the attack's size; the user's attacked files; and
files attacked here, on the bare model and through the candidate's own perturbation."""
ATTACKS = (ADAPTIVE, ATTACKED, GIVEN)
"""The arms with an attack, the strongest first."""

Outcomes = dict[str, bool | None]


class Measured(Record):
    """One candidate's results; arms are those of `ARMS` with rows."""

    config: SmoothGuardConfig
    rates: dict[str, Rate]
    """By arm: right answers of `harmless`, successes of the attacker elsewhere."""
    outcomes: dict[str, Outcomes]
    """By arm and row."""
    mean_calls: float
    """Model calls per harmless row."""
    paired: PairedTest
    """Harmless rows right without (first) and with (second) the guard."""

    @property
    def utility_loss(self) -> float:
        """Share of right answers that the guard costs: lost minus gained, over the rows."""
        return self.paired.difference or 0.0

    @property
    def loss_bound(self) -> float:
        """Upper end of the 95 % interval of the utility loss; 1 without rows."""
        interval = self.paired.difference_interval()
        return 1.0 if interval is None else interval[1]


class Unguarded(Record):
    """Results of the model without a guard."""

    rates: dict[str, Rate]
    outcomes: dict[str, Outcomes] = Field(default_factory=dict)


def upper_end(rate: Rate) -> float:
    """Return the upper end of a rate's 95 % interval; 1 without rows.

    Example:
        >>> round(upper_end(Rate(k=0, n=20)), 3)
        0.161
    """
    interval = rate.interval()
    return 1.0 if interval is None else interval[1]


def describe_noise(config: SmoothGuardConfig, kinds: Iterable[MediumKind] = ("image",)) -> str:
    """Return the perturbation of media of these kinds in words.

    Example:
        >>> describe_noise(SmoothGuardConfig(), ["image", "audio"])
        'sigma 0.05, shift 5 px, SNR 20 dB'
    """
    image, audio = config.image, config.audio
    settings = (
        ("shift", image.max_shift, "px"),
        ("rotation", image.max_rotation, "degrees"),
        ("low-pass", image.low_pass, "px"),
    )
    parts = {
        "image": ", ".join(
            [f"sigma {config.sigma:g}", *(f"{name} {value:g} {unit}" for name, value, unit in settings if value)]
        ),
        "audio": (f"SNR {audio.snr_db:g} dB" if audio.snr_db is not None else f"audio sigma {audio.sigma:g}")
        + ("" if audio.speed_range is None else ", speed {:g} to {:g}".format(*audio.speed_range)),
    }
    return ", ".join(parts[kind] for kind in dict.fromkeys(kinds))
