"""Benchmarks, judges, arms, statistics and reports: the gains and costs of a guard. Names load on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.lazy import lazy_exports

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.arena import Arena, ArenaResult, Duel
    from smoothguard_guardrail.evaluation.arms import Arm, noise_only, run_arms, sweep, with_media
    from smoothguard_guardrail.evaluation.attacked_media import attack_items
    from smoothguard_guardrail.evaluation.attackers import Attacker, AttackSettings, default_attackers
    from smoothguard_guardrail.evaluation.cache import CachedJudge
    from smoothguard_guardrail.evaluation.classifier_judge import ClassifierJudge
    from smoothguard_guardrail.evaluation.identity import ModelIdentity, identify
    from smoothguard_guardrail.evaluation.items import Answer, Item
    from smoothguard_guardrail.evaluation.judges import ChatJudge, RefusalJudge, ReviewJudge
    from smoothguard_guardrail.evaluation.mappers import InProcesses, InThreads, Mapper
    from smoothguard_guardrail.evaluation.ray import OnRay
    from smoothguard_guardrail.evaluation.record import ArmRecord, EvaluationRecord, PairRecord, record_arms
    from smoothguard_guardrail.evaluation.scores import Judge, Judgement, ScoreRow, Scores
    from smoothguard_guardrail.evaluation.statistics import PairedTest, Rate, mcnemar

_MODULES = {
    "arena": ("Arena", "ArenaResult", "Duel"),
    "arms": ("Arm", "noise_only", "run_arms", "sweep", "with_media"),
    "attacked_media": ("attack_items",),
    "attackers": ("AttackSettings", "Attacker", "default_attackers"),
    "cache": ("CachedJudge",),
    "classifier_judge": ("ClassifierJudge",),
    "identity": ("ModelIdentity", "identify"),
    "items": ("Answer", "Item"),
    "judges": ("ChatJudge", "RefusalJudge", "ReviewJudge"),
    "mappers": ("InProcesses", "InThreads", "Mapper"),
    "ray": ("OnRay",),
    "record": ("ArmRecord", "EvaluationRecord", "PairRecord", "record_arms"),
    "scores": ("Judge", "Judgement", "ScoreRow", "Scores"),
    "statistics": ("PairedTest", "Rate", "mcnemar"),
}

__all__ = [
    "Answer",
    "Arena",
    "ArenaResult",
    "Arm",
    "ArmRecord",
    "AttackSettings",
    "Attacker",
    "CachedJudge",
    "ChatJudge",
    "ClassifierJudge",
    "Duel",
    "EvaluationRecord",
    "InProcesses",
    "InThreads",
    "Item",
    "Judge",
    "Judgement",
    "Mapper",
    "ModelIdentity",
    "OnRay",
    "PairRecord",
    "PairedTest",
    "Rate",
    "RefusalJudge",
    "ReviewJudge",
    "ScoreRow",
    "Scores",
    "attack_items",
    "default_attackers",
    "identify",
    "mcnemar",
    "noise_only",
    "record_arms",
    "run_arms",
    "sweep",
    "with_media",
]

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
