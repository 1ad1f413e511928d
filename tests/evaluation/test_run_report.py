"""What the report of an evaluation says: who judged, what an outcome means, what the attacker knew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.evaluation import Answer, Arm, ArmRecord, EvaluationRecord, Item, ModelIdentity, Rate
from smoothguard_guardrail.evaluation.record import PairRecord
from smoothguard_guardrail.evaluation.run_report import run_report
from smoothguard_guardrail.evaluation.scores import ScoreRow, Scores
from smoothguard_guardrail.evaluation.statistics import PairedTest

GUARD = SmoothGuardConfig()


def arm_record(name: str, config: SmoothGuardConfig | None, *, right: bool = True) -> ArmRecord:
    row = ScoreRow(group="all", num_items=1, metrics={"accuracy": Rate(k=int(right), n=1)})
    return ArmRecord(
        name=name,
        config=None if config is None else config.model_dump(mode="json", exclude={"seed"}),
        scores=Scores(benchmark="pope", rows=(row,), outcomes={"1": right}),
        mean_calls=1,
        num_errors=0,
    )


def evaluation(*arms: ArmRecord, **fields: Any) -> EvaluationRecord:
    test = PairedTest(both=1, only_first=0, only_second=0, neither=0, p_value=1)
    pair = PairRecord(first=arms[0].name, second=arms[-1].name, test=test)
    values = {"benchmark": "pope", "model": ModelIdentity(name="reference"), "pairs": (pair,), "versions": {}}
    values |= {"num_items": 1, "seed": 0, "arms": arms, "device": "cpu", "started": "", "seconds": 0}
    return EvaluationRecord(**values | fields)


def report_json(record: EvaluationRecord, **options: Any) -> str:
    arms = [Arm(name=arm.name, items=[Item(id="1", question="?")]) for arm in record.arms]
    answers = {arm.name: {"1": Answer(item_id="1", text="Yes.")} for arm in arms}
    return run_report(record, arms, answers, **options).model_dump_json()


@pytest.mark.parametrize(
    ("name", "judge", "words", "outcome"),
    [
        ("llava-bench", "review:X", "the answer with question, context and reference", "as good as the reference"),
        ("mm-safetybench", "refusal:1", "It reads only the answer", "outcome `unsafe`"),
        ("mm-safetybench", "classifier:x:with question", "It reads question and answer", "outcome `unsafe`"),
    ],
)
def test_report_says_what_the_judge_reads_and_outcomes_mean(name: str, judge: str, words: str, outcome: str) -> None:
    page = report_json(evaluation(arm_record("clean", None), arm_record("guarded", GUARD), benchmark=name, judge=judge))
    assert words in page
    assert outcome in page
    assert "outcome `right`" not in page


def test_report_names_the_guards_whose_noise_the_attacker_did_not_know() -> None:
    arms = [
        arm_record("adversarial", None),
        arm_record("adversarial-guarded", GUARD),
        arm_record("adversarial-guarded num_samples=4", GUARD.override(num_samples=4)),
        arm_record("adversarial-guarded sigma=0.3", GUARD.override(sigma=0.3)),
        arm_record("guarded sigma=0.3", GUARD.override(sigma=0.3)),
        arm_record("adversarial-guarded image.max_shift=9", GUARD.override(image={"max_shift": 9})),
    ]
    page = report_json(evaluation(*arms, attack={"through": GUARD.model_dump(mode="json")}))
    unknown = "`adversarial-guarded sigma=0.3`, `adversarial-guarded image.max_shift=9`"
    assert f"did not know the perturbations of {unknown}:" in page
    assert "an attack on only the bare model may do better" in page
    page = report_json(evaluation(*arms[:3], attack={"through": GUARD.model_dump(mode="json")}))
    assert "did not know the perturbations" not in page


def test_a_swept_whole_number_is_on_the_curve() -> None:
    names = {"guarded low_pass=0": {"low_pass": 0.0}, "guarded low_pass=0.5": {"low_pass": 0.5}}
    record = evaluation(arm_record("clean", None), *(arm_record(name, GUARD) for name in names))
    arms = [Arm(name=arm.name, items=[Item(id="1", question="?")]) for arm in record.arms]
    answers = {arm.name: {"1": Answer(item_id="1", text="Yes.")} for arm in arms}
    (curve,) = run_report(record, arms, answers, sweep=names).sections[0].curves
    assert [(series.name, [point.x for point in series.points]) for series in curve.series] == [("guarded", [0.0, 0.5])]


def test_an_image_that_cannot_be_opened_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    item = Item(id="1", question="?", media=(tmp_path / "bomb.png",))
    record = evaluation(arm_record("clean", None), arm_record("guarded", GUARD, right=False))
    arms = [Arm(name=arm.name, items=[item]) for arm in record.arms]
    answers = {arm.name: {"1": Answer(item_id="1", text="Yes.")} for arm in arms}
    (case,) = run_report(record, arms, answers).sections[-1].cases
    assert case.images == {}
