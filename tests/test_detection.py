"""The statistics of detection: areas, intervals, thresholds, and the scores that suspicion is compared with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.detection import (
    Signal,
    alarms,
    answers_differ,
    detection_section,
    embedding_distance,
    roc_area,
    roc_area_interval,
    roc_points,
    suspicion_score,
)
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.components import GuardComponents
from smoothguard_guardrail.evaluation.report import Report, render_html

LEVELS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=12)


def named(prefix: str, values: list[float]) -> dict[str, float]:
    return {f"{prefix}{index}": value for index, value in enumerate(values)}


class LettersEmbedder:
    """Embeds a text by its first letter."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] if text.startswith("a") else [0.0, 2.0] for text in texts]


@given(clean=LEVELS, attacked=LEVELS)
def test_area_and_curve_agree_with_scikit_learn(clean: list[float], attacked: list[float]) -> None:
    labels, values = [0] * len(clean) + [1] * len(attacked), [*clean, *attacked]
    ours = named("a", clean), named("b", attacked)
    assert roc_area(*ours) == pytest.approx(roc_auc_score(labels, values))
    false, found, _ = roc_curve(labels, values, drop_intermediate=False)
    points = [(point.x, point.y) for point in roc_points(*ours)]
    assert points == [pytest.approx(pair) for pair in dict.fromkeys(zip(false, found, strict=True))]
    low, high = roc_area_interval(*ours)
    assert 0 <= low <= high <= 1


@given(clean=LEVELS, attacked=LEVELS, rate=st.sampled_from([0.0, 0.01, 0.05, 0.5]))
def test_the_threshold_is_the_lowest_that_keeps_the_false_alarms(
    clean: list[float], attacked: list[float], rate: float
) -> None:
    found = alarms(named("a", clean), named("b", attacked), rate)
    assert found.false.k <= rate * len(clean)
    assert found.found.k == sum(value > found.threshold for value in attacked)
    lower = [value for value in clean if value < found.threshold]
    if lower:
        assert sum(value > max(lower) for value in clean) > rate * len(clean)


def test_the_interval_covers_the_area_and_shrinks_with_more_images() -> None:
    generator = np.random.default_rng(1)
    widths = []
    for count in (20, 200):
        clean = named("a", generator.normal(0, 1, count).tolist())
        attacked = named("b", generator.normal(1, 1, count).tolist())
        low, high = roc_area_interval(clean, attacked)
        assert low <= roc_area(clean, attacked) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_versions_of_one_image_are_resampled_together() -> None:
    clean = {str(index): float(index) for index in range(20)}
    attacked = {name: score + 0.5 for name, score in clean.items()}
    paired = roc_area_interval(clean, attacked)
    apart = roc_area_interval(clean, {f"other {name}": score for name, score in attacked.items()})
    assert paired[1] - paired[0] < (apart[1] - apart[0]) / 2
    assert roc_area_interval(clean, attacked) == paired, "the resamples are repeatable"


@pytest.mark.parametrize("bad", [{}, {"a": float("nan")}])
def test_bad_scores_are_rejected(bad: dict[str, float]) -> None:
    for one, other in ((bad, {"a": 1.0}), ({"a": 1.0}, bad)):
        with pytest.raises(ValueError, match="expected at least one score"):
            roc_area(one, other)
    with pytest.raises(ValueError, match="false_alarm_rate"):
        alarms({"a": 0.0}, {"a": 1.0}, 1.0)
    with pytest.raises(ValueError, match="signal"):
        detection_section("Detection", (), [])


@pytest.mark.slow
def test_a_section_has_a_row_per_signal_and_attack_and_renders() -> None:
    attacked = {"plain 8/255": {"a": 1.0, "b": 0.5}, "adaptive 8/255": {"a": 0.0, "b": 0.5}}
    signals = [
        Signal(name=name, calls=calls, clean={"a": 0.0, "b": 0.25}, attacked=attacked)
        for name in ("suspicion", "answers differ")
        for calls in (2, 3)
    ]
    section = detection_section("Detection", ("Two images.",), signals)
    assert len(section.tables[0].rows) == 8
    assert section.tables[0].rows[0][:3] == ("suspicion", 2, "plain 8/255")
    assert [curve.title.split(":")[0] for curve in section.curves[1:]] == list(attacked)
    assert [series.name for series in section.curves[1].series] == ["suspicion", "answers differ"]
    report = Report(title="Detection", summary=("Two images.",), sections=(section,), environment={})
    assert "ROC area by number of calls" in render_html(report)


def test_scores_of_answers() -> None:
    config, components = SmoothGuardConfig(), GuardComponents()
    cats = ["It shows a cat.", "it shows a  cat", "It shows a cat!"]
    assert suspicion_score(cats, config, components) == answers_differ(cats) == 0
    assert suspicion_score(["It shows a dog.", *cats], config, components) == 0.5
    assert suspicion_score(["The password is 1234.", "I'm sorry, I can't help."], config, components) == 1
    assert answers_differ(["It shows a dog.", *cats]) == 1
    assert embedding_distance(["a", "ab", "b"], LettersEmbedder()) == pytest.approx(2 / 3)
    assert embedding_distance(["a"], LettersEmbedder()) == 0
