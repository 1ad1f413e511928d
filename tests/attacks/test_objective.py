from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.attacks.objective import TargetLoss, append_answers
from smoothguard_guardrail.errors import ConfigurationError, UnsupportedMediaError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = ["What do you see?", "Is there a red circle in the picture?", "Tell me."]
TARGETS = ["Yes, there is.", "No.", "A small blue square on a grey ground."]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> ChatTransformersMultimodal:
    folder = tiny.build_llava(tmp_path_factory.mktemp("llava"))
    return ChatTransformersMultimodal.from_pretrained(str(folder), device="cpu")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((3, 3, 48, 48), generator=torch.Generator().manual_seed(0))


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4),
    token_type=st.sampled_from([0, 1]),
)
def test_answers_directly_follow_their_prompts(lengths: list[tuple[int, int]], token_type: int) -> None:
    longest = max(prompt for prompt, _ in lengths)
    ids = torch.zeros((len(lengths), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, _) in enumerate(lengths):
        ids[row, longest - prompt :] = torch.arange(1, prompt + 1)
        mask[row, longest - prompt :] = 1
    pixels = torch.rand(len(lengths), 3, 2, 2)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": 5 * mask,
        "mm_token_type_ids": 7 * mask,
        "cross_attention_mask": (ids + 10)[..., None],
        "pixel_values": pixels,
    }
    answers = [list(range(100, 100 + answer)) for _, answer in lengths]
    extended, labels = append_answers(inputs, answers, token_type=token_type)
    assert extended["pixel_values"] is pixels
    for row, (prompt, answer) in enumerate(lengths):
        kept = extended["attention_mask"][row].bool()
        assert kept.sum() == prompt + answer
        assert kept[-prompt - answer :].all()
        assert extended["input_ids"][row, kept].tolist() == [*range(1, prompt + 1), *answers[row]]
        assert extended["token_type_ids"][row, kept].tolist() == [5] * prompt + [token_type] * answer
        assert extended["mm_token_type_ids"][row, kept].tolist() == [7] * prompt + [0] * answer
        seen = [*range(11, 11 + prompt), *[10 + prompt] * answer]
        assert extended["cross_attention_mask"][row, kept, 0].tolist() == seen
        assert labels[row, -answer:].tolist() == answers[row]
        assert (labels[row, :-answer] == -100).all()


def test_the_gradient_matches_finite_differences(llava: ChatTransformersMultimodal, images: torch.Tensor) -> None:
    objective = TargetLoss(llava, images, QUESTIONS, TARGETS)
    rows = torch.arange(3)
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(point, rows).sum(), point)
    direction = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    step = 0.002
    with torch.no_grad():
        change = objective(images + step * direction, rows) - objective(images - step * direction, rows)
    slope = gradient.flatten(1).norm(dim=1)
    assert torch.allclose(change / (2 * step), slope, rtol=0.02)


def test_losses_do_not_depend_on_the_batch(llava: ChatTransformersMultimodal, images: torch.Tensor) -> None:
    together = TargetLoss(llava, images, QUESTIONS, TARGETS)
    with torch.no_grad():
        losses = together(images, torch.arange(3))
        for row in range(3):
            alone = TargetLoss(llava, images[row : row + 1], QUESTIONS[row : row + 1], TARGETS[row : row + 1])
            assert torch.allclose(alone(images[row : row + 1], torch.tensor([0])), losses[row], atol=1e-4)


def test_frozen_restores_the_parameters(llava: ChatTransformersMultimodal, images: torch.Tensor) -> None:
    objective = TargetLoss(llava, images, QUESTIONS, TARGETS)
    parameters = list(llava.hf_model.parameters())
    before = [each.requires_grad for each in parameters]
    assert any(before)
    with objective.frozen():
        assert not any(each.requires_grad for each in parameters)
    assert [each.requires_grad for each in parameters] == before


def test_questions_cannot_write_control_tokens(llava: ChatTransformersMultimodal, images: torch.Tensor) -> None:
    question = "Say <image> <|im_end|>"
    objective = TargetLoss(llava, images[:1], [question], TARGETS[:1])
    with torch.no_grad():
        assert objective(images[:1], torch.tensor([0])).isfinite().all()


def test_models_and_templates_without_images_are_refused(tmp_path: Path, images: torch.Tensor) -> None:
    audio_model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_qwen2_audio(tmp_path / "a")), device="cpu")
    with pytest.raises(UnsupportedMediaError, match="takes no"):
        TargetLoss(audio_model, images, QUESTIONS, TARGETS)
    loaded: Any = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path / "b")), device="cpu")
    loaded.processor.chat_template = None
    with pytest.raises(ConfigurationError):
        TargetLoss(loaded, images, QUESTIONS, TARGETS)
