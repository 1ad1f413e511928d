"""The guard end to end on the shipped model: image, noise, forward pass, embedding, vote."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from PIL import Image

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.media import Encoded
from smoothguard_guardrail.media.pdf import write_pdf
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import REFERENCE_DIR, reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.models.reference.questions import ask, is_correct
from smoothguard_guardrail.models.reference.scenes import draw, scenes
from tests.media.recorded import record_video

pytestmark = pytest.mark.skipif(
    not (REFERENCE_DIR / "model.safetensors").is_file(), reason="the reference model's weights are missing"
)


@pytest.fixture(scope="module")
def chat() -> ChatTransformersMultimodal:
    return ChatTransformersMultimodal.from_pretrained(str(reference_path()), local_files_only=True, device="cpu")


@pytest.fixture(scope="module")
def questions() -> list[tuple[Any, Any, list[BaseMessage]]]:
    """Return scenes, questions about them, and messages that ask them."""
    rng = np.random.default_rng(5)
    made = []
    for scene in scenes(30, seed=5):
        if (qa := ask(scene, "colour", rng)) is not None:
            buffer = io.BytesIO()
            draw(scene).save(buffer, "PNG")
            picture = base64.b64encode(buffer.getvalue()).decode()
            content: list[Any] = [
                {"type": "image", "base64": picture, "mime_type": "image/png"},
                {"type": "text", "text": qa.question},
            ]
            made.append((scene, qa, [HumanMessage(content)]))
    return made[:12]


@pytest.mark.slow
def test_guarded_answers_are_as_often_right_as_unguarded_ones(chat: Any, questions: Any) -> None:
    guard = SmoothGuardRunnable(chat, config=SmoothGuardConfig.reference(seed=1))
    unguarded = [is_correct(scene, qa, str(chat.invoke(messages).content)) for scene, qa, messages in questions]
    results = [guard.guard(messages) for _, _, messages in questions]
    guarded = [
        is_correct(scene, qa, str(result.answer.content))
        for (scene, qa, _), result in zip(questions, results, strict=True)
    ]
    assert len(questions) == 12
    assert sum(unguarded) >= 10
    assert sum(guarded) >= sum(unguarded) - 1
    for result in results:
        assert result.verdict == "passed"
        assert result.num_calls <= 10
        assert result.usage is not None
        assert result.usage["output_tokens"] > 0
        assert result.media[0].perturbed_size == (96, 96)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_attack_32_secret", "04_attack_32_secret", "10_clean_secret"])
def test_an_image_in_a_pdf_is_read_and_an_attack_in_it_overruled(chat: Any, name: str) -> None:
    [picture] = [picture for picture in load_demo().pictures if picture.name == name]
    data = write_pdf([Encoded.of((DEMO_DIR / picture.file).read_bytes(), "image/png")]).base64
    message = HumanMessage([{"type": "file", "base64": data}, {"type": "text", "text": picture.question}])
    assert picture.is_hit(str(chat.invoke([message]).text)) == picture.is_attack
    result = SmoothGuardRunnable(chat, config=SmoothGuardConfig.reference(seed=0)).guard([message])
    assert picture.is_right(str(result.answer.text))
    [record] = result.media
    assert (record.path, record.mime_type) == ("messages[0].content[0].pages[0]", "application/pdf")
    assert (record.size, record.perturbed_size) == ((200, 200), (96, 96))
    assert record.effective_sd is not None


async def test_a_guarded_answer_has_record_and_metadata(chat: Any, questions: Any) -> None:
    guard = SmoothGuardRunnable(chat, config=SmoothGuardConfig.reference(seed=1, include_clean=True))
    collector = RunCollectorCallbackHandler()
    scene, qa, messages = questions[0]
    answer = await guard.ainvoke(messages, {"callbacks": [collector]})
    assert is_correct(scene, qa, str(answer.content)) == is_correct(scene, qa, str(chat.invoke(messages).content))
    record = answer.response_metadata["smoothguard"]
    assert json.loads(json.dumps(record))["num_calls"] == len(collector.traced_runs[0].child_runs)
    assert answer.response_metadata["model_name"] == chat.model_name
    assert guard.invoke(messages).content == answer.content
    assert chat.invoke(messages, stop=[" "]).content != ""
    assert guard.invoke(messages, stop=[" "]).content != ""


def about_video(data: bytes, question: str) -> list[BaseMessage]:
    block = {"type": "video", "base64": base64.b64encode(data).decode()}
    return [HumanMessage([block, {"type": "text", "text": question}])]


@pytest.mark.slow
def test_questions_about_a_video_are_answered(chat: Any, questions: Any) -> None:
    config = SmoothGuardConfig.reference(seed=1).override(media={"video": {"max_frames": 2}})
    guard = SmoothGuardRunnable(chat, config=config)
    right = 0
    for scene, qa, _ in questions[:6]:
        video = record_video([np.array(draw(scene).convert("RGB"))] * 5, crf="10")
        result = guard.guard(about_video(video, qa.question))
        right += is_correct(scene, qa, str(result.answer.content))
        assert [record.path[-10:] for record in result.media] == [".frames[0]", ".frames[1]"]
    assert right >= 5


@pytest.mark.parametrize("name", ["01_attack_16_secret", "04_attack_32_secret", "06_attack_32_colour"])
def test_an_attack_that_a_lossless_video_carries_is_overruled(chat: Any, name: str) -> None:
    [picture] = [picture for picture in load_demo().pictures if picture.name == name]
    with Image.open(DEMO_DIR / picture.file) as image:
        frame = np.array(image.convert("RGB"))
    lossless = {"container": "matroska", "codec": "ffv1", "pix_fmt": "bgr0"}
    unguarded = str(chat.invoke(about_video(record_video([frame], **lossless), picture.question)).content)
    config = SmoothGuardConfig.reference(seed=1, include_clean=True).override(media={"video": {"max_frames": 1}})
    messages = about_video(record_video([frame] * 5, **lossless), picture.question)
    result = SmoothGuardRunnable(chat, config=config).guard(messages)
    assert picture.is_hit(unguarded)
    assert picture.is_right(str(result.answer.content))
    assert result.clean_overruled
