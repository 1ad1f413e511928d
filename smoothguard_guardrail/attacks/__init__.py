"""White-box and query attacks on Hugging Face models, to measure a defence with. Names load on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.lazy import lazy_exports

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.ball import Ball, Norm, Window
    from smoothguard_guardrail.attacks.base import Attack
    from smoothguard_guardrail.attacks.bpda import EightBit, StraightThrough
    from smoothguard_guardrail.attacks.eot_pgd import EOTPGD
    from smoothguard_guardrail.attacks.low_frequency import LowFrequencyPGD
    from smoothguard_guardrail.attacks.objective import TargetLoss
    from smoothguard_guardrail.attacks.pgd import PGD
    from smoothguard_guardrail.attacks.problem import Objective, Transform
    from smoothguard_guardrail.attacks.result import AttackProgress, AttackResult
    from smoothguard_guardrail.attacks.space import PIXELS, WAVEFORM, Space
    from smoothguard_guardrail.attacks.square import SquareAttack
    from smoothguard_guardrail.attacks.universal import UniversalPGD
    from smoothguard_guardrail.attacks.waveform import WaveformLoss, WaveformPGD, WaveformResult, wav_bytes

_MODULES = {
    "ball": ("Ball", "Norm", "Window"),
    "base": ("Attack",),
    "bpda": ("EightBit", "StraightThrough"),
    "eot_pgd": ("EOTPGD",),
    "low_frequency": ("LowFrequencyPGD",),
    "objective": ("TargetLoss",),
    "pgd": ("PGD",),
    "problem": ("Objective", "Transform"),
    "result": ("AttackProgress", "AttackResult"),
    "space": ("PIXELS", "Space", "WAVEFORM"),
    "square": ("SquareAttack",),
    "universal": ("UniversalPGD",),
    "waveform": ("WaveformLoss", "WaveformPGD", "WaveformResult", "wav_bytes"),
}

__all__ = [
    "EOTPGD",
    "PGD",
    "PIXELS",
    "WAVEFORM",
    "Attack",
    "AttackProgress",
    "AttackResult",
    "Ball",
    "EightBit",
    "LowFrequencyPGD",
    "Norm",
    "Objective",
    "Space",
    "SquareAttack",
    "StraightThrough",
    "TargetLoss",
    "Transform",
    "UniversalPGD",
    "WaveformLoss",
    "WaveformPGD",
    "WaveformResult",
    "Window",
    "wav_bytes",
]

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
