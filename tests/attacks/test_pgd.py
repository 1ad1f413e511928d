from __future__ import annotations

import base64
import io
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from PIL import Image

import smoothguard_guardrail.attacks as attacks
from smoothguard_guardrail.attacks import PGD, AttackResult
from smoothguard_guardrail.attacks.ball import Ball
from smoothguard_guardrail.attacks.objective import TargetLoss
from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from tests.attacks import smooth
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = ["What do you see?", "Is there a red circle in the picture?", "Tell me."]
TARGETS = ["Yes, there is.", "No.", "A small blue square on a grey ground."]
BUILDERS = {"llava": tiny.build_llava, "qwen2_vl": tiny.build_qwen2_vl, "idefics3": tiny.build_idefics3}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def chat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ChatTransformersMultimodal:
    folder = BUILDERS[request.param](tmp_path_factory.mktemp(request.param))
    return ChatTransformersMultimodal.from_pretrained(str(folder), device="cpu")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> ChatTransformersMultimodal:
    return ChatTransformersMultimodal.from_pretrained(
        str(tiny.build_llava(tmp_path_factory.mktemp("llava"))), device="cpu"
    )


def random_images(number: int = 3, side: int = 56, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 3, side, side), generator=generator).float() / 255


def noise(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + 0.1 * drawn).clamp(0, 1)


def user_loss(chat: ChatTransformersMultimodal, png: bytes, question: str, target: str) -> float:
    """The loss of the target for an image as a user sends it: a PNG in a base64 block, one prompt, no padding."""
    block = {"type": "image", "base64": base64.b64encode(png).decode(), "mime_type": "image/png"}
    conversation = chat.engine.read([HumanMessage(content=[block, {"type": "text", "text": question}])])
    inputs = chat.engine.encode([conversation])
    answer = torch.tensor([chat.engine.answer_ids(conversation, target)])
    length = inputs["input_ids"].shape[1]
    for name, value in list(inputs.items()):
        if value.shape == (1, length):
            tail = {"input_ids": answer, "attention_mask": torch.ones_like(answer)}
            inputs[name] = torch.cat([value, tail.get(name, torch.zeros_like(answer))], dim=1)
    with torch.no_grad():
        logits = chat.hf_model(**inputs).logits[:, length - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits[0], answer[0]))


def png(image: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    values = (image * 255).round().to(torch.uint8)
    assert torch.equal(values.float() / 255, image)
    Image.fromarray(values.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_the_attack_lowers_the_loss_that_a_user_would_see(chat: ChatTransformersMultimodal) -> None:
    images = random_images()
    result = PGD(16 / 255, num_steps=12, seed=0)(chat, images, QUESTIONS, TARGETS)
    assert result.history.shape == (12, 3)
    assert (result.loss < result.history[0]).all()
    assert (result.images - images).abs().max() <= 16 / 255 + 1e-6
    for row, (question, target) in enumerate(zip(QUESTIONS, TARGETS, strict=True)):
        before = user_loss(chat, png(images[row]), question, target)
        after = user_loss(chat, png(result.images[row]), question, target)
        assert before == pytest.approx(float(result.history[0, row]), abs=2e-3)
        assert after == pytest.approx(float(result.loss[row]), abs=2e-3)


def test_the_gradient_reaches_every_image(chat: ChatTransformersMultimodal) -> None:
    images = random_images().requires_grad_()
    objective = TargetLoss(chat, images, QUESTIONS, TARGETS)
    objective(images, torch.arange(3)).sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_answer_has_the_chat_templates_end_token(llava: ChatTransformersMultimodal) -> None:
    ids = llava.engine.answer_ids(llava.engine.read([HumanMessage("Tell me.")]), "No.")
    assert llava.processor.tokenizer.decode(ids) == "No.<|im_end|>"


def test_an_end_token_is_added_if_the_template_has_none(tmp_path: Path) -> None:
    loaded = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    loaded.processor.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% for b in m['content'] %}{{ b['text'] }}{% endfor %} {% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    ids = loaded.engine.answer_ids(loaded.engine.read([HumanMessage("Tell me.")]), "No.")
    assert loaded.processor.tokenizer.decode(ids) == " No.<|im_end|>"


@settings(max_examples=30, deadline=None)
@given(
    epsilon=st.floats(0.5 / 255, 1.0),
    levels=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_rounding_stays_in_the_ball(epsilon: float, levels: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    original = torch.rand((2, 3, 5, 5), generator=generator)
    if levels:
        original = (original * 255).round() / 255
    wild = original + (torch.rand(original.shape, generator=generator) * 4 - 2) * epsilon
    rounded = Ball(epsilon=epsilon).round(wild, original)
    assert ((rounded - original).abs() <= epsilon + 1e-6).all()
    assert torch.equal((rounded * 255).round() / 255, rounded)
    assert rounded.min() >= 0
    assert rounded.max() <= 1


@pytest.mark.parametrize("epsilon", [1 / 255, 8 / 255, 0.05])
def test_attacks_stay_in_the_ball(llava: ChatTransformersMultimodal, epsilon: float) -> None:
    images = torch.rand((3, 3, 48, 48), generator=torch.Generator().manual_seed(1))
    attack = PGD(epsilon, num_steps=3, seed=0, random_start=True, transform=noise, num_draws=2)
    result = attack(llava, images, QUESTIONS, TARGETS)
    assert (result.images - images).abs().max() <= epsilon + 1e-6
    assert torch.equal((result.images * 255).round() / 255, result.images)


def test_a_ball_without_an_eight_bit_image_is_refused(llava: ChatTransformersMultimodal) -> None:
    between = torch.full((3, 3, 48, 48), 100.5 / 255)
    with pytest.raises(ConfigurationError, match="8-bit"):
        PGD(0.1 / 255)(llava, between, QUESTIONS, TARGETS)


def test_a_seed_repeats_an_attack(llava: ChatTransformersMultimodal) -> None:
    def run(seed: int) -> torch.Tensor:
        attack = PGD(8 / 255, num_steps=3, seed=seed, transform=noise, num_draws=2, random_start=True)
        return attack(llava, random_images(side=48), QUESTIONS, TARGETS).images

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_max_batch_size_does_not_change_the_gradient(llava: ChatTransformersMultimodal) -> None:
    def run(max_batch_size: int | None) -> torch.Tensor:
        return PGD(8 / 255, num_steps=3, max_batch_size=max_batch_size)(
            llava, random_images(side=48), QUESTIONS, TARGETS
        ).history

    assert torch.allclose(run(None), run(2), atol=1e-4)


def test_expectation_over_the_transform_lowers_the_mean_loss(llava: ChatTransformersMultimodal) -> None:
    attack = PGD(32 / 255, num_steps=15, seed=0, transform=noise, num_draws=4)
    result = attack(llava, random_images(side=48), QUESTIONS, TARGETS)
    assert (result.history[-3:].mean(dim=0) < result.history[:3].mean(dim=0)).all()


def test_the_model_is_unchanged_after_an_attack(llava: ChatTransformersMultimodal) -> None:
    trainable = [parameter.requires_grad for parameter in llava.hf_model.parameters()]
    before = llava.invoke("Hi", max_new_tokens=5).content
    PGD(8 / 255, num_steps=2)(llava, random_images(side=48), QUESTIONS, TARGETS)
    assert [parameter.requires_grad for parameter in llava.hf_model.parameters()] == trainable
    assert all(parameter.grad is None for parameter in llava.hf_model.parameters())
    assert llava.invoke("Hi", max_new_tokens=5).content == before


def test_a_processor_without_gradient_names_the_extra_to_install(tmp_path: Path) -> None:
    from transformers import LlavaImageProcessorPil

    loaded = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    size = {"height": 48, "width": 48}
    loaded.processor.image_processor = LlavaImageProcessorPil(size=size, crop_size=size)
    with pytest.raises(MissingDependencyError, match=r"pip install 'smoothguard-guardrail\[local\]'"):
        PGD(8 / 255)(loaded, random_images(), QUESTIONS, TARGETS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0.0},
        {"epsilon": 8},
        {"step_size": 0.0},
        {"num_steps": 0},
        {"num_draws": 0},
        {"max_batch_size": 0},
        {"momentum": 1.0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        PGD(**({"epsilon": 8 / 255} | wrong))


def test_settings_cannot_be_changed_after_construction() -> None:
    attack: Any = PGD(8 / 255)
    with pytest.raises(AttributeError):
        attack.epsilon = 1.0


def test_wrong_shapes_are_refused(llava: ChatTransformersMultimodal) -> None:
    with pytest.raises(ConfigurationError, match="one question and target each"):
        PGD(8 / 255)(llava, random_images(2), QUESTIONS, TARGETS)


def test_untargeted_attacks_raise_the_loss(llava: ChatTransformersMultimodal) -> None:
    result = PGD(16 / 255, num_steps=8, targeted=False, seed=0)(llava, random_images(side=48), QUESTIONS, TARGETS)
    assert (result.loss > result.history[0]).all()
    objective = TargetLoss(llava, result.images, QUESTIONS, TARGETS)
    with torch.no_grad():
        assert torch.allclose(result.loss, objective(result.images, torch.arange(3)), atol=1e-3)


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_steps_never_give_a_worse_loss(norm: Any, targeted: bool) -> None:
    images = smooth.random_images()
    sign = 1 if targeted else -1
    found = []
    for num_steps in (1, 4, 16):
        # Steps of whole levels need no rounding, which could change the loss; for l2 compare the best loss on the way.
        epsilon, step = (20 / 255, 2 / 255) if norm == "linf" else (0.4, 0.05)
        attack = PGD(epsilon, step_size=step, num_steps=num_steps, norm=norm, targeted=targeted, seed=0)
        result = attack.run(smooth.Waves((3, 6, 6), num_rows=3), images)
        losses = sign * result.history
        found.append(sign * result.loss if norm == "linf" else losses.min(dim=0).values)
    for fewer, more in pairwise(found):
        assert (more <= fewer + 1e-5).all()


def test_a_snapshot_equals_a_shorter_run() -> None:
    options: dict[str, Any] = {"seed": 5, "transform": smooth.noise, "num_draws": 3, "random_start": True}
    images = smooth.random_images()

    def run(num_steps: int, *snapshot_steps: int) -> AttackResult:
        attack = PGD(0.1, step_size=0.02, num_steps=num_steps, snapshot_steps=snapshot_steps, num_restarts=2, **options)
        return attack.run(smooth.Waves((3, 6, 6), num_rows=3), images)

    long = run(12, 1, 5, 12)
    for num_steps in (1, 5, 12):
        assert torch.equal(long.snapshots[num_steps], run(num_steps).images)
    assert torch.equal(long.images, run(12).images)


def test_the_best_restart_wins_for_every_image() -> None:
    objective = smooth.Waves((3, 6, 6), num_rows=3)
    attack = PGD(0.03, num_steps=4, random_start=True, num_restarts=6, seed=0)
    result = attack.run(objective, smooth.random_images())
    assert result.history.shape == (4, 3)
    with objective.frozen():
        assert torch.allclose(objective(result.images, torch.arange(3)), result.loss, atol=1e-5)
    single = [
        PGD(0.03, num_steps=4, random_start=True, seed=seed).run(objective, smooth.random_images()).loss
        for seed in range(1, 7)
    ]
    assert result.loss.mean() < torch.stack(single).mean()


def test_all_lists_every_public_name() -> None:
    assert dir(attacks) == sorted(attacks.__all__)
    assert all(getattr(attacks, name) is not None for name in attacks.__all__)
    with pytest.raises(AttributeError, match="CW"):
        _ = attacks.CW


class Slope:
    """A loss with the same slope everywhere, which records where it was evaluated."""

    def __init__(self) -> None:
        self.points: list[torch.Tensor] = []

    def frozen(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, media: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if media.requires_grad:
            self.points.append(media.detach().clone())
        return -media.mean(dim=(1, 2, 3))


def test_steps_shrink_to_a_tenth() -> None:
    slope = Slope()
    PGD(None, step_size=0.01, num_steps=20, momentum=0, step_decay=True).run(slope, torch.zeros(1, 3, 4, 4))
    steps = [float((after - before).max()) for before, after in pairwise(slope.points)]
    assert steps[0] == pytest.approx(0.01, rel=1e-3)
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == pytest.approx(0.01 * 0.1, rel=1e-2)
