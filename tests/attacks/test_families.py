"""All model families: pixels, the model's own processor, its chat template, the loss of an answer."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from smoothguard_guardrail.attacks import PGD
from smoothguard_guardrail.attacks.objective import TargetLoss
from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from tests.models import families, tiny

if TYPE_CHECKING:
    from pathlib import Path

BUILDERS = {
    "gemma3": families.build_gemma3,
    "idefics3": tiny.build_idefics3,
    "internvl": families.build_internvl,
    "llava": tiny.build_llava,
    "llava_next": families.build_llava_next,
    "mllama": families.build_mllama,
    "paligemma": families.build_paligemma,
    "qwen2_5_vl": families.build_qwen2_5_vl,
    "qwen2_vl": tiny.build_qwen2_vl,
    "qwen3_vl": families.build_qwen3_vl,
    "smolvlm": families.build_smolvlm,
}
# PaliGemma's processor hands its tensors to NumPy, whose protocol torch does not speak fully yet.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
EPSILON = 16 / 255
QUESTIONS = ["What do you see?", "Is there a red circle in the picture?"]
TARGETS = ["A small blue square on a grey ground.", "No."]


class Attacked(NamedTuple):
    chat: ChatTransformersMultimodal
    folder: str
    images: torch.Tensor
    found: torch.Tensor
    loss: torch.Tensor
    first_loss: torch.Tensor


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    """A model of the family, and two images after a short attack, not square and not a multiple of the patch size."""
    folder = str(BUILDERS[request.param](tmp_path_factory.mktemp(request.param)))
    chat = ChatTransformersMultimodal.from_pretrained(folder, device="cpu", max_new_tokens=5)
    images = torch.randint(0, 256, (2, 3, 50, 70), generator=torch.Generator().manual_seed(0)).float() / 255
    result = PGD(EPSILON, num_steps=8, seed=0)(chat, images, QUESTIONS, TARGETS)
    return Attacked(chat, folder, images, result.images, result.loss, result.history[0])


def png(image: torch.Tensor) -> bytes:
    values = (image * 255).round().to(torch.uint8)
    assert torch.equal(values.float() / 255, image)
    buffer = io.BytesIO()
    Image.fromarray(values.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def block(data: bytes) -> dict[str, Any]:
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/png"}


def chat_loss(chat: ChatTransformersMultimodal, data: bytes, question: str, target: str) -> float:
    """The target's loss for a PNG in a message, token by token with a cache, as answers are generated."""
    conversation = chat.engine.read([HumanMessage([block(data), {"type": "text", "text": question}])])
    inputs = chat.engine.encode([conversation])
    answer = chat.engine.answer_ids(conversation, target)
    wanted: list[int] = []

    def force(_: int, ids: torch.Tensor) -> list[int]:
        wanted.append(answer[len(ids) - inputs["input_ids"].shape[1]])
        return wanted[-1:]

    output = chat.hf_model.generate(
        **inputs,
        max_new_tokens=len(answer),
        do_sample=False,
        prefix_allowed_tokens_fn=force,
        output_logits=True,
        return_dict_in_generate=True,
    )
    assert wanted == answer
    return float(torch.nn.functional.cross_entropy(torch.cat(output.logits), torch.tensor(answer)))


def plain_loss(chat: ChatTransformersMultimodal, folder: str, data: bytes, question: str, target: str) -> float:
    """The loss computed with transformers only: AutoProcessor on the PNG, and labels."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    image = Image.open(io.BytesIO(data))
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    if type(processor).__name__ == "PaliGemmaProcessor":
        inputs = processor(images=[image], text=[prompt], suffix=[target], return_tensors="pt")
    else:
        inputs = processor(images=[[image]], text=[f"{prompt}{target}<|im_end|>"], return_tensors="pt")
        length = processor(images=[[image]], text=[prompt], return_tensors="pt")["input_ids"].shape[1]
        inputs["labels"] = inputs["input_ids"].clone()
        inputs["labels"][:, :length] = -100
    with torch.no_grad():
        return float(chat.hf_model(**inputs).loss)


@pytest.mark.slow
def test_the_gradient_reaches_every_pixel(attacked: Attacked) -> None:
    images = attacked.images.clone().requires_grad_()
    TargetLoss(attacked.chat, images, QUESTIONS, TARGETS)(images, torch.arange(2)).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    # LLaVA crops the sides of a wide image.
    seen = 0.65 if attacked.chat.hf_model.config.model_type == "llava" else 0.98
    assert (images.grad != 0).float().mean() > seen


def test_the_attack_lowers_the_loss_within_the_bound(attacked: Attacked) -> None:
    assert (attacked.loss < attacked.first_loss - 0.05).all()
    assert (attacked.found - attacked.images).abs().max() <= EPSILON + 1e-6


@pytest.mark.parametrize("row", [0, 1])
def test_the_saved_image_has_the_lower_loss_in_a_chat(attacked: Attacked, row: int) -> None:
    def loss(images: torch.Tensor) -> float:
        return chat_loss(attacked.chat, png(images[row]), QUESTIONS[row], TARGETS[row])

    assert loss(attacked.images) == pytest.approx(float(attacked.first_loss[row]), abs=2e-3)
    assert loss(attacked.found) == pytest.approx(float(attacked.loss[row]), abs=2e-3)


@pytest.mark.parametrize("row", [0, 1])
def test_the_saved_image_has_the_lower_loss_without_this_package(attacked: Attacked, row: int) -> None:
    def loss(images: torch.Tensor) -> float:
        return plain_loss(attacked.chat, attacked.folder, png(images[row]), QUESTIONS[row], TARGETS[row])

    assert loss(attacked.found) < loss(attacked.images) - 0.05


def test_rows_may_repeat_in_any_order(attacked: Attacked) -> None:
    objective = TargetLoss(attacked.chat, attacked.images, QUESTIONS, TARGETS)
    rows = torch.tensor([1, 0, 1, 1])
    with torch.no_grad():
        losses = objective(attacked.images[rows], rows)
    assert torch.allclose(losses, attacked.first_loss[rows], atol=2e-3)


def test_an_image_gets_the_same_answer_in_a_batch(attacked: Attacked) -> None:
    chat = attacked.chat
    batch: list[Any] = [
        [HumanMessage([block(png(image)), {"type": "text", "text": question}])]
        for image, question in zip(attacked.images, QUESTIONS, strict=True)
    ]
    together = [answer.content for answer in chat.generate_batch(batch)]
    assert together == [chat.invoke(messages).content for messages in batch]
    assert together[0] == "".join(str(chunk.content) for chunk in chat.stream(batch[0]))


@pytest.mark.parametrize("name", ["llava_next", "gemma3"])
def test_a_processor_without_gradient_names_the_extra_to_install(name: str, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    folder = str(BUILDERS[name](tmp_path))
    model = ChatTransformersMultimodal.from_pretrained(folder, device="cpu").hf_model
    chat = ChatTransformersMultimodal(hf_model=model, processor=AutoProcessor.from_pretrained(folder, backend="pil"))
    images = torch.zeros(1, 3, 50, 70)
    with pytest.raises(MissingDependencyError, match=r"pip install 'smoothguard-guardrail\[local\]'"):
        TargetLoss(chat, images, QUESTIONS[:1], TARGETS[:1])


def test_a_model_that_needs_an_image_refuses_text_only(tmp_path: Path) -> None:
    chat = ChatTransformersMultimodal.from_pretrained(str(families.build_paligemma(tmp_path)), device="cpu")
    with pytest.raises(ConfigurationError, match="images"):
        chat.invoke("Tell me.")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava", "paligemma", "qwen2_5_vl"])
def test_half_precision_models_return_float32_losses_and_gradients(name: str, tmp_path: Path) -> None:
    chat = ChatTransformersMultimodal.from_pretrained(str(BUILDERS[name](tmp_path)), device="cpu", dtype="bfloat16")
    images = torch.rand((2, 3, 50, 70), generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = TargetLoss(chat, images, QUESTIONS, TARGETS)(images, torch.arange(2))
    losses.sum().backward()
    assert losses.dtype == torch.float32
    assert images.grad is not None
    assert images.grad.dtype == torch.float32
    assert (images.grad != 0).float().mean() > 0.6
    eight_bits = (images.detach() * 255).round() / 255
    result = PGD(EPSILON, num_steps=6, seed=0)(chat, eight_bits, QUESTIONS, TARGETS)
    assert result.images.dtype == result.loss.dtype == torch.float32
    assert (result.loss < result.history[0]).all()
