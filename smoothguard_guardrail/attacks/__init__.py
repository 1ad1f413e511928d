"""White-box attacks on Hugging Face models, to measure a defence with. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.pgd import PGD, AttackResult, Transform

__all__ = ["PGD", "AttackResult", "Transform"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from smoothguard_guardrail.attacks import pgd

        return getattr(pgd, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
