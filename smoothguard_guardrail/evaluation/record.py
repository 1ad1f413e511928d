"""The record of an evaluation: scores and cost of every arm, and everything needed to repeat it."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol, Self

from pydantic import Field, JsonValue

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail._internal.versions import package_versions
from smoothguard_guardrail.errors import ConfigurationError, InputError
from smoothguard_guardrail.evaluation.arms import Arm
from smoothguard_guardrail.evaluation.datasets.base import Benchmark
from smoothguard_guardrail.evaluation.identity import ModelIdentity
from smoothguard_guardrail.evaluation.items import Answer
from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.scores import Judge, Scores
from smoothguard_guardrail.evaluation.statistics import PairedTest, mcnemar

_PACKAGES = (
    "smoothguard-guardrail",
    "torch",
    "transformers",
    "langchain-core",
    "sentence-transformers",
    "scikit-learn",
)


class PartialBenchmark(Benchmark, Protocol):
    """A benchmark that can be scored on a part of its items."""

    def part(self, ids: Any, /) -> Self:
        """Return the benchmark with only these items."""
        ...


class ArmRecord(Record):
    """One arm: its settings, scores and cost."""

    name: str
    config: dict[str, JsonValue] | None
    """Every setting of the guard; None: the bare model."""
    components: str = ""
    """`components_name` of the arm."""
    scores: Scores
    """Of the existing answers; items whose call failed are unscored and count in no rate."""
    mean_calls: float
    """Model calls per answered item."""
    media_sha256: str = ""
    """Over the ids of the items and the contents of their media, attacked ones included; empty without media."""
    num_errors: int
    """Items whose call failed."""
    errors: dict[str, int] = Field(default_factory=dict)
    """Failures by type."""
    verdicts: dict[str, int] = Field(default_factory=dict)
    """Counts of the guard's verdicts: `passed`, `abstained`, and `skipped` without media."""


class PairRecord(Record):
    """McNemar's test of two arms on the same items."""

    first: str
    second: str
    test: PairedTest


class EvaluationRecord(Record):
    """A whole evaluation."""

    benchmark: str
    num_items: int
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the benchmark's files, by path."""
    model: ModelIdentity
    judge: str = ""
    """Kind, model and prompts of the judge; empty if none was needed."""
    seed: int
    """The noise of an item has the seed `item_seed(seed, item.id)` in every arm."""
    attack: dict[str, JsonValue] | None = None
    """How attacked media were made, or where they came from; None: no arm has any."""
    arms: tuple[ArmRecord, ...]
    pairs: tuple[PairRecord, ...]
    versions: dict[str, str]
    device: str
    """Device of local models."""
    started: str
    """Date and time, ISO 8601, UTC."""
    seconds: float
    """Duration of this run; a resumed run is shorter."""
    command: str = ""


def record_arms(
    benchmark: PartialBenchmark,
    arms: Sequence[Arm],
    answers: Mapping[str, Mapping[str, Answer]],
    *,
    judge: Judge | None = None,
) -> tuple[tuple[ArmRecord, ...], tuple[PairRecord, ...]]:
    """Score every arm, and compare all pairs of arms with the same items.

    Args:
        benchmark: The benchmark.
        arms: The arms that were run.
        answers: By arm and item, as `run_arms` returns them.
        judge: Judges answers if the benchmark needs it.

    Raises:
        ConfigurationError: An arm has no answers, or a required judge is missing.
    """
    records = []
    for arm in arms:
        if arm.name not in answers:
            raise ConfigurationError(f"there are no answers of the arm {arm.name!r}")
        records.append(_record_arm(benchmark, arm, answers[arm.name], judge))
    pairs = [
        PairRecord(first=first.name, second=second.name, test=mcnemar(first.scores.outcomes, second.scores.outcomes))
        for first, second in combinations(records, 2)
        if first.scores.outcomes.keys() == second.scores.outcomes.keys()
    ]
    return tuple(records), tuple(pairs)


def score_answers(benchmark: PartialBenchmark, answers: Mapping[str, Answer], *, judge: Judge | None = None) -> Scores:
    """Score the existing answers; failed calls are unscored and counted separately.

    Raises:
        ConfigurationError: There are answers to other items or none at all, or a required judge is missing.
    """
    texts = {key: answer.text for key, answer in answers.items() if answer.error is None}
    if not texts:
        raise ConfigurationError("there is no answer to score: every call failed, or nothing was asked")
    failed = [key for key in answers if key not in texts]
    whole = len(texts) == len(benchmark.items)
    scores = (benchmark if whole else benchmark.part(texts)).score(texts, judge=judge)
    if not failed:
        return scores
    return scores.model_copy(
        update={
            "outcomes": scores.outcomes | dict.fromkeys(failed),
            "num_unscored": scores.num_unscored + len(failed),
            "notes": (*scores.notes, f"{len(failed)} of {len(answers)} calls failed; their items count in no rate"),
        }
    )


def _record_arm(benchmark: PartialBenchmark, arm: Arm, answers: Mapping[str, Answer], judge: Judge | None) -> ArmRecord:
    errors = Counter(answer.error.partition(":")[0] for answer in answers.values() if answer.error is not None)
    verdicts = Counter(str(answer.record["verdict"]) for answer in answers.values() if answer.record)
    calls = [answer.num_calls for answer in answers.values() if answer.error is None]
    return ArmRecord(
        name=arm.name,
        config=None if arm.config is None else arm.config.model_dump(mode="json", exclude={"seed"}),
        components=arm.components_name,
        scores=score_answers(benchmark, answers, judge=judge),
        mean_calls=sum(calls) / len(calls),
        media_sha256=_media_sha256(arm),
        num_errors=sum(errors.values()),
        errors=dict(errors),
        verdicts=dict(verdicts),
    )


def _media_sha256(arm: Arm) -> str:
    digest, found = hashlib.sha256(), False
    for item in arm.items:
        for path in item.media:
            found = True
            try:
                content = file_sha256(path)
            except InputError:  # the answer records the failure
                content = "missing"
            digest.update(f"{item.id} {content}\n".encode())
    return digest.hexdigest() if found else ""


def versions() -> dict[str, str]:
    """Return the versions of Python, the platform, and the packages that answers depend on."""
    return package_versions(_PACKAGES) | {"platform": platform.platform()}


def device_name() -> str:
    """Return the device of local models, such as `cpu` or `cuda (NVIDIA H100 80GB HBM3)`."""
    import torch

    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    return "mps" if torch.backends.mps.is_available() else "cpu"
