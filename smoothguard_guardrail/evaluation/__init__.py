"""Benchmarks, judges, arms, statistics and reports: what a guard gains and what it costs. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.answering import Parts
    from smoothguard_guardrail.evaluation.cache import CachedJudge
    from smoothguard_guardrail.evaluation.classifier_judge import ClassifierJudge
    from smoothguard_guardrail.evaluation.identity import ModelIdentity, identify
    from smoothguard_guardrail.evaluation.items import Answer, Item
    from smoothguard_guardrail.evaluation.judges import ChatJudge, RefusalJudge, ReviewJudge
    from smoothguard_guardrail.evaluation.mapping import InProcesses, InThreads, Mapper
    from smoothguard_guardrail.evaluation.running import Arm, noise_alone, run_arms, sweep, with_media
    from smoothguard_guardrail.evaluation.scores import Judge, Judgement, ScoreRow, Scores
    from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate, mcnemar

_MODULES = {
    "Answer": "items",
    "Arm": "running",
    "CachedJudge": "cache",
    "ChatJudge": "judges",
    "ClassifierJudge": "classifier_judge",
    "InProcesses": "mapping",
    "InThreads": "mapping",
    "Item": "items",
    "Judge": "scores",
    "Judgement": "scores",
    "Mapper": "mapping",
    "ModelIdentity": "identity",
    "PairedTest": "statistics",
    "Parts": "answering",
    "Rate": "statistics",
    "RefusalJudge": "judges",
    "ReviewJudge": "judges",
    "ScoreRow": "scores",
    "Scores": "scores",
    "identify": "identity",
    "mcnemar": "statistics",
    "noise_alone": "running",
    "run_arms": "running",
    "sweep": "running",
    "with_media": "running",
}

__all__ = [
    "Answer",
    "Arm",
    "CachedJudge",
    "ChatJudge",
    "ClassifierJudge",
    "InProcesses",
    "InThreads",
    "Item",
    "Judge",
    "Judgement",
    "Mapper",
    "ModelIdentity",
    "PairedTest",
    "Parts",
    "Rate",
    "RefusalJudge",
    "ReviewJudge",
    "ScoreRow",
    "Scores",
    "identify",
    "mcnemar",
    "noise_alone",
    "run_arms",
    "sweep",
    "with_media",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
