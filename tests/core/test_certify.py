"""Certificates: their arithmetic, what they refuse, and patch attacks that never break one."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage
from PIL import Image
from scipy.stats import binom, norm

from smoothguard_guardrail import (
    ConfigurationError,
    GuardComponents,
    ImageConfig,
    QuorumError,
    SmoothGuardConfig,
    SmoothGuardRunnable,
    UnsupportedMediaError,
)
from smoothguard_guardrail.core.certify import lower_bound
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.perturbations import CoverWindows, covering_windows
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import image_block, pixels, png, question

PLAIN = SmoothGuardConfig(sigma=0.2, seed=0, image=ImageConfig(max_shift=0))


def guard(script: Any, config: SmoothGuardConfig = PLAIN, **components: Any) -> SmoothGuardRunnable:
    return SmoothGuardRunnable(ScriptedChatModel(script=script), config, components=GuardComponents(**components))


@given(st.integers(1, 200), st.data())
def test_the_bound_is_clopper_and_pearsons(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total))
    bound = lower_bound(count, total, 0.01)
    assert 0 < bound < count / total or bound == pytest.approx(0.01 ** (1 / total))
    # With this probability, as many answers or more would be seen in one of a hundred experiments.
    assert binom.sf(count - 1, total, bound) == pytest.approx(0.01)


def test_a_unanimous_class_is_certified() -> None:
    certificate = guard(["I'm sorry, I can't share that.", "I won't tell you that."]).certify(
        question(), num_samples=100, alpha=0.001
    )
    assert (certificate.answer_class, certificate.certified, certificate.count) == ("refuses", True, 90)
    assert certificate.radius == pytest.approx(0.2 * norm.ppf(0.001 ** (1 / 90)))
    assert "16/255" in str(certificate)


def test_a_divided_class_is_not() -> None:
    certificate = guard(["yes", "no"]).certify(question(), num_samples=100, by="yes_no")
    assert (certificate.certified, certificate.radius) == (False, 0.0)
    assert str(certificate).startswith("Not certified")


@pytest.mark.parametrize(
    ("by", "answers", "expected"),
    [
        ("yes_no", ["Yes, it is.", "Ja!"], "yes"),
        ("key", ["A **cat**.", "a cat"], "\na cat"),
        (lambda message: str(len(message.text)), ["abc", "xyz"], "3"),
    ],
)
def test_classes_of_answers(by: Any, answers: list[str], expected: str) -> None:
    assert guard(answers).certify(question(), num_samples=20, by=by).answer_class == expected


async def test_sync_and_async_give_the_same_certificate() -> None:
    model = AsyncScriptedChatModel(script=["yes"])
    sync = guard(["yes"]).certify(question(), num_samples=40, by="yes_no")
    assert await SmoothGuardRunnable(model, PLAIN).acertify(question(), num_samples=40, by="yes_no") == sync


def test_failed_calls_count_against_the_class() -> None:
    calls = itertools.count()

    def script(messages: list[BaseMessage]) -> str:
        if next(calls) % 3 == 2:
            raise RuntimeError("boom")
        return "yes"

    certificate = guard(script).certify(question(), num_samples=100, by="yes_no")
    assert certificate.count < 70

    def fails(messages: list[BaseMessage]) -> str:
        raise RuntimeError("boom")

    with pytest.raises(QuorumError):
        guard(fails).certify(question(), num_samples=20)


@pytest.mark.parametrize(
    "config",
    [
        SmoothGuardConfig(),
        PLAIN.override(image={"max_rotation": 5}),
        PLAIN.override(image={"resize_range": (0.9, 1.1)}),
    ],
    ids=["shift", "rotation", "resize"],
)
def test_a_noise_certificate_needs_noise_alone(config: SmoothGuardConfig) -> None:
    with pytest.raises(ConfigurationError, match="max_shift=0"):
        guard(["yes"], config).certify(question(), num_samples=20)
    with pytest.raises(ConfigurationError, match="image_perturber"):
        guard(["yes"], image_perturber=lambda batch, *, generator: batch).certify(question(), num_samples=20)


def test_bad_arguments_and_requests_are_rejected() -> None:
    for options in ({"num_samples": 9}, {"alpha": 0.0}, {"alpha": 1.0}):
        with pytest.raises(ConfigurationError, match="certificate"):
            guard(["yes"]).certify(question(), **options)
    with pytest.raises(UnsupportedMediaError, match="no media"):
        guard(["yes"]).certify("Hello", num_samples=20)
    with pytest.raises(ConfigurationError, match="one image"):
        guard(["yes"]).certify_patch(question(image_block(), image_block()))
    with pytest.raises(ConfigurationError, match="patch"):
        guard(["yes"]).certify_patch(question(), patch=0.0)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_every_patch_lies_within_a_window(height: int, width: int, data: st.DataObject) -> None:
    patch = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    windows = covering_windows((height, width), patch, data.draw(st.integers(1, 5)))
    for top in range(height - patch[0] + 1):
        for left in range(width - patch[1] + 1):
            assert any(
                y <= top and x <= left and top + patch[0] <= y + h and left + patch[1] <= x + w
                for y, x, h, w in windows
            )
    assert all(y + h <= height and x + w <= width for y, x, h, w in windows)


def test_windows_are_covered_and_nothing_else() -> None:
    batch = torch.rand(2, 3, 8, 8)
    covered = CoverWindows([[(0, 0, 2, 3)], [(4, 4, 4, 4), (0, 0, 1, 1)]])(batch, generator=torch.Generator())
    assert (covered[0, :, :2, :3] == 0.5).all()
    assert (covered[1, :, 4:, 4:] == 0.5).all()
    assert torch.equal(covered[0, :, 2:], batch[0, :, 2:])
    with pytest.raises(ConfigurationError, match="2 copies"):
        CoverWindows([[], []])(batch[:1], generator=torch.Generator())


def dark_corner(messages: list[BaseMessage]) -> str:
    """Obey if the top left corner is black: a model that a patch fools, wherever it is seen."""
    block = messages[0].content[1]
    assert isinstance(block, dict)
    return "The code is 6173." if pixels(block["base64"])[:4, :4].max() < 0.1 else "I'm sorry, I can't share that."


def test_a_patch_that_fools_the_model_does_not_fool_the_decision() -> None:
    clean = question(image_block(png(32, 32, level=200)))
    certificate = guard(dark_corner).certify_patch(clean, patch=0.2, windows_per_axis=3)
    assert (certificate.certified, certificate.answer_class, certificate.num_calls) == (True, "refuses", 45)
    assert "6 x 6" in str(certificate)
    image = np.full((32, 32, 3), 200, np.uint8)
    image[:6, :6] = 0
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    patched = question(image_block(buffer.getvalue()))
    assert "6173" in dark_corner(patched)
    decision = guard(dark_corner).decide_with_windows(patched, patch=0.2, windows_per_axis=3)
    assert decision.answer_class == "refuses"
    assert "6173" not in decision.answer.text


@pytest.mark.slow
def test_two_hundred_patches_never_break_a_certificate() -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()))
    guarded, rng, attacks = SmoothGuardRunnable(model, PLAIN), np.random.default_rng(0), 0
    pictures = load_demo().pictures
    adversarial = [pixels((DEMO_DIR / picture.file).read_bytes()) for picture in pictures if picture.is_attack]
    for picture in pictures:
        clean = [picture.message()]
        certificate = guarded.certify_patch(clean, patch=0.1, windows_per_axis=3)
        if not certificate.certified:
            continue
        original = pixels((DEMO_DIR / picture.file).read_bytes())
        height, width = certificate.patch_size
        for number in range(40):
            top, left = (
                rng.integers(0, side - size + 1) for side, size in zip(original.shape, (height, width), strict=False)
            )
            attacked = original.copy()
            patch = [
                rng.random((height, width, 3)),
                rng.integers(0, 2, (height, width, 3)).astype(float),
                rng.choice(np.stack(adversarial))[top : top + height, left : left + width],
                np.broadcast_to(rng.random(3), (height, width, 3)),
            ][number % 4]
            attacked[top : top + height, left : left + width] = patch
            buffer = io.BytesIO()
            Image.fromarray((attacked * 255).round().astype(np.uint8)).save(buffer, "PNG")
            data = base64.b64encode(buffer.getvalue()).decode()
            request = [picture.message().model_copy(deep=True)]
            for block in request[0].content:
                if isinstance(block, dict) and "base64" in block:
                    block["base64"] = data
            decision = guarded.decide_with_windows(request, patch=0.1, windows_per_axis=3)
            assert decision.answer_class == certificate.answer_class
            attacks += 1
            if attacks == 200:
                return
    raise AssertionError(f"only {attacks} patches were tried")
