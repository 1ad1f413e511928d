"""Benchmarks, judges, arms, statistics and reports: what a guard gains and what it costs. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.items import Answer, Item
    from smoothguard_guardrail.evaluation.scores import Judge, Judgement, ScoreRow, Scores
    from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate, mcnemar

_MODULES = {
    "Answer": "items",
    "Item": "items",
    "Judge": "scores",
    "Judgement": "scores",
    "PairedTest": "statistics",
    "Rate": "statistics",
    "ScoreRow": "scores",
    "Scores": "scores",
    "mcnemar": "statistics",
}

__all__ = [
    "Answer",
    "Item",
    "Judge",
    "Judgement",
    "PairedTest",
    "Rate",
    "ScoreRow",
    "Scores",
    "mcnemar",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
