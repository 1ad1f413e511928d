"""White-box and query attacks on Hugging Face models, to measure a defence with. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.ball import Norm
    from smoothguard_guardrail.attacks.base import Attack
    from smoothguard_guardrail.attacks.objective import TargetLoss
    from smoothguard_guardrail.attacks.pgd import EOTPGD, PGD
    from smoothguard_guardrail.attacks.problem import Objective, Transform
    from smoothguard_guardrail.attacks.result import AttackResult, Progress
    from smoothguard_guardrail.attacks.space import PIXELS, WAVEFORM, Space

_MODULES = {
    "Attack": "base",
    "AttackResult": "result",
    "EOTPGD": "pgd",
    "Norm": "ball",
    "Objective": "problem",
    "PGD": "pgd",
    "PIXELS": "space",
    "Progress": "result",
    "Space": "space",
    "TargetLoss": "objective",
    "Transform": "problem",
    "WAVEFORM": "space",
}

__all__ = [
    "EOTPGD",
    "PGD",
    "PIXELS",
    "WAVEFORM",
    "Attack",
    "AttackResult",
    "Norm",
    "Objective",
    "Progress",
    "Space",
    "TargetLoss",
    "Transform",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
