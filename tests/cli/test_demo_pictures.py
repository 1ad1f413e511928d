from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, DemoPicture, load_demo
from smoothguard_guardrail.models.reference.questions import QuestionAnswer
from training.demo_pictures import ATTACKS, CLEAN, cast_roles, false_statement

PICTURES = load_demo().pictures
each_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)


def levels(file: str) -> np.ndarray:
    with Image.open(DEMO_DIR / file) as image:
        return np.asarray(image, dtype=int)


def test_images_were_made_for_the_shipped_weights() -> None:
    weights = (reference_path() / "model.safetensors").read_bytes()
    assert load_demo().weights_sha256 == hashlib.sha256(weights).hexdigest(), "run python -m training.demo_pictures"


def test_scenes_were_not_chosen_by_hand() -> None:
    roles = list(cast_roles(ChatTransformersMultimodal.from_pretrained(str(reference_path()), device="cpu")))
    assert len(roles) == len(PICTURES) == len(ATTACKS) + len(CLEAN)
    for role, picture in zip(roles, PICTURES, strict=True):
        assert (role.name, role.asked.question, role.asked.answer) == (picture.name, picture.question, picture.expected)
        assert picture.target == (role.target if role.epsilon else None)


def test_folder_contains_only_the_listed_files() -> None:
    listed = {file for picture in PICTURES for file in (picture.file, picture.original) if file}
    assert {path.name for path in DEMO_DIR.glob("*.png")} == listed


@each_picture
def test_attack_stays_within_epsilon(picture: DemoPicture) -> None:
    shown = levels(picture.file)
    assert shown.shape == (96, 96, 3)
    if picture.original is None:
        assert picture.epsilon is None
    else:
        assert picture.epsilon is not None
        assert 0 < np.abs(shown - levels(picture.original)).max() <= picture.epsilon


@each_picture
def test_expected_answer_is_right_and_target_is_a_hit(picture: DemoPicture) -> None:
    assert picture.is_right(picture.expected)
    assert not picture.is_hit(picture.expected)
    if picture.target is not None:
        assert picture.is_hit(picture.target)
        assert not picture.is_right(picture.target)


@pytest.mark.parametrize(
    ("kind", "true", "false"),
    [
        ("is_there", "Yes, there is a red circle.", "No, there is no red circle."),
        ("is_there", "No, there is no red circle.", "Yes, there is a red circle."),
        ("colour", "It is red.", "It is green."),
        ("colour", "It is purple.", "It is red."),
    ],
)
def test_false_statement_contradicts_the_true_one(kind: str, true: str, false: str) -> None:
    assert false_statement(QuestionAnswer(kind=kind, question="", answer=true)) == false
