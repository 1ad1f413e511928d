"""Benchmarks, judges, arms, statistics and reports: what a guard gains and what it costs. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.classifier_judge import ClassifierJudge
    from smoothguard_guardrail.evaluation.items import Answer, Item
    from smoothguard_guardrail.evaluation.judges import ChatJudge, RefusalJudge, ReviewJudge
    from smoothguard_guardrail.evaluation.scores import Judge, Judgement, ScoreRow, Scores
    from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate, mcnemar

_MODULES = {
    "Answer": "items",
    "ChatJudge": "judges",
    "ClassifierJudge": "classifier_judge",
    "Item": "items",
    "Judge": "scores",
    "Judgement": "scores",
    "PairedTest": "statistics",
    "Rate": "statistics",
    "RefusalJudge": "judges",
    "ReviewJudge": "judges",
    "ScoreRow": "scores",
    "Scores": "scores",
    "mcnemar": "statistics",
}

__all__ = [
    "Answer",
    "ChatJudge",
    "ClassifierJudge",
    "Item",
    "Judge",
    "Judgement",
    "PairedTest",
    "Rate",
    "RefusalJudge",
    "ReviewJudge",
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
