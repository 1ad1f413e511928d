from __future__ import annotations

import pytest
import torch

from smoothguard_guardrail import InputError, SmoothGuardConfig
from smoothguard_guardrail.attacks import AttackProgress
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.inspector.attack import AttackedRun, AttackPlan, attack, render_attack, render_progress
from smoothguard_guardrail.models import ChatTransformersMultimodal, load_model
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

PICTURE = load_demo().pictures[0]
CONFIG = SmoothGuardConfig.reference(seed=0)
ORIGINAL = DEMO_DIR / str(PICTURE.original)


@pytest.fixture(scope="module")
def model() -> ChatTransformersMultimodal:
    loaded = load_model("reference", device="cpu")
    assert isinstance(loaded, ChatTransformersMultimodal)
    return loaded


def plan(**changes: object) -> AttackPlan:
    given = {"question": PICTURE.question, "target": PICTURE.target, "epsilon": 16, "num_steps": 40} | changes
    return AttackPlan(image=read_image(ORIGINAL), knows_guard=False, seed=0, **given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_bare_model_falls_and_the_guard_does_not(model: ChatTransformersMultimodal) -> None:
    *steps, found = attack(model, CONFIG, plan())
    assert [step.step for step in steps if isinstance(step, AttackProgress)] == list(range(1, 41))
    assert isinstance(found, AttackedRun)
    assert 0 < float((found.attacked - found.plan.image).abs().max()) <= 16 / 255 + 1e-6
    assert (PICTURE.is_hit(found.bare[0]), PICTURE.is_hit(found.bare[1])) == (False, True)
    html = render_attack(found)
    assert html.count("The attack succeeded") == html.count("The attack failed") == 1
    assert 'value="1" max="40"' in render_progress(steps[0])  # type: ignore[arg-type]


def test_an_attacker_who_knows_the_guard_stays_within_the_same_bound(model: ChatTransformersMultimodal) -> None:
    known = AttackPlan(
        image=read_image(ORIGINAL), question="What?", target="No.", epsilon=4, num_steps=2, knows_guard=True, seed=0
    )
    *_, found = attack(model, CONFIG, known)
    assert isinstance(found, AttackedRun)
    assert float((found.attacked - known.image).abs().max()) <= 4 / 255 + 1e-6
    assert torch.equal(found.attacked, (found.attacked * 255).round() / 255)


@pytest.mark.parametrize("missing", [{"question": " "}, {"target": ""}])
def test_an_attack_needs_a_question_and_a_target(model: ChatTransformersMultimodal, missing: dict[str, str]) -> None:
    with pytest.raises(InputError, match="needs a question"):
        attack(model, CONFIG, plan(**missing))
