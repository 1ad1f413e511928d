"""White-box and query attacks on Hugging Face models, to measure a defence with. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.ball import Ball, Norm
    from smoothguard_guardrail.attacks.base import Attack
    from smoothguard_guardrail.attacks.bpda import EightBit, StraightThrough
    from smoothguard_guardrail.attacks.objective import TargetLoss
    from smoothguard_guardrail.attacks.pgd import EOTPGD, PGD
    from smoothguard_guardrail.attacks.problem import Objective, Transform
    from smoothguard_guardrail.attacks.result import AttackResult, Progress
    from smoothguard_guardrail.attacks.space import PIXELS, WAVEFORM, Space
    from smoothguard_guardrail.attacks.square import SquareAttack
    from smoothguard_guardrail.attacks.universal import UniversalPGD
    from smoothguard_guardrail.attacks.waveform import WaveformLoss, WaveformPGD, WaveformResult, wav_bytes

_MODULES = {
    "Attack": "base",
    "AttackResult": "result",
    "Ball": "ball",
    "EOTPGD": "pgd",
    "EightBit": "bpda",
    "Norm": "ball",
    "Objective": "problem",
    "PGD": "pgd",
    "PIXELS": "space",
    "Progress": "result",
    "Space": "space",
    "SquareAttack": "square",
    "StraightThrough": "bpda",
    "TargetLoss": "objective",
    "Transform": "problem",
    "UniversalPGD": "universal",
    "WAVEFORM": "space",
    "WaveformLoss": "waveform",
    "WaveformPGD": "waveform",
    "WaveformResult": "waveform",
    "wav_bytes": "waveform",
}

__all__ = [
    "EOTPGD",
    "PGD",
    "PIXELS",
    "WAVEFORM",
    "Attack",
    "AttackResult",
    "Ball",
    "EightBit",
    "Norm",
    "Objective",
    "Progress",
    "Space",
    "SquareAttack",
    "StraightThrough",
    "TargetLoss",
    "Transform",
    "UniversalPGD",
    "WaveformLoss",
    "WaveformPGD",
    "WaveformResult",
    "wav_bytes",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
