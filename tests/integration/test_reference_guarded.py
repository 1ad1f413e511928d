"""The whole way on the shipped model: picture, noise, forward pass, embedding, vote."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import REFERENCE_DIR, reference_path
from smoothguard_guardrail.models.reference.questions import ask, is_correct
from smoothguard_guardrail.models.reference.scenes import draw, scenes

pytestmark = pytest.mark.skipif(
    not (REFERENCE_DIR / "model.safetensors").is_file(), reason="the reference model's weights are not there"
)


@pytest.fixture(scope="module")
def chat() -> ChatTransformersMultimodal:
    return ChatTransformersMultimodal.from_pretrained(str(reference_path()), local_files_only=True, device="cpu")


@pytest.fixture(scope="module")
def asked() -> list[tuple[Any, Any, list[BaseMessage]]]:
    """Return scenes, questions about them, and both as messages."""
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


def test_guarded_answers_are_as_right_as_unguarded_ones(chat: Any, asked: Any) -> None:
    guard = SmoothGuardRunnable(chat, config=SmoothGuardConfig.calibrated(seed=1))
    alone = [is_correct(scene, qa, str(chat.invoke(messages).content)) for scene, qa, messages in asked]
    results = [guard.guard(messages) for _, _, messages in asked]
    guarded = [
        is_correct(scene, qa, str(result.answer.content)) for (scene, qa, _), result in zip(asked, results, strict=True)
    ]
    assert len(asked) == 12
    assert sum(alone) >= 10
    assert sum(guarded) >= sum(alone) - 1
    for result in results:
        assert result.verdict == "passed"
        assert result.num_calls <= 10
        assert result.usage is not None
        assert result.usage["output_tokens"] > 0
        assert result.media[0].perturbed_size == (chat.image_size, chat.image_size)


async def test_an_answer_as_a_chat_model_gives_it(chat: Any, asked: Any) -> None:
    guard = SmoothGuardRunnable(chat, config=SmoothGuardConfig.calibrated(seed=1, include_clean=True))
    collector = RunCollectorCallbackHandler()
    scene, qa, messages = asked[0]
    answer = await guard.ainvoke(messages, {"callbacks": [collector]})
    assert is_correct(scene, qa, str(answer.content)) == is_correct(scene, qa, str(chat.invoke(messages).content))
    record = answer.response_metadata["smoothguard"]
    assert json.loads(json.dumps(record))["num_calls"] == len(collector.traced_runs[0].child_runs)
    assert answer.response_metadata["model_name"] == chat.model_name
    assert guard.invoke(messages).content == answer.content
    assert chat.invoke(messages, stop=[" "]).content != ""
    assert guard.invoke(messages, stop=[" "]).content != ""
