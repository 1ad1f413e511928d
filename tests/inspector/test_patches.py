from __future__ import annotations

import io

import numpy as np
import pytest
from langchain_core.messages import BaseMessage
from PIL import Image

from smoothguard_guardrail import ConfigurationError, QuorumError, SmoothGuardConfig
from smoothguard_guardrail.inspector.patches import PatchMap, map_patches, render_patches
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import image_block, pixels, question

CONFIG = SmoothGuardConfig(seed=0)


def with_square() -> bytes:
    picture = np.full((60, 80, 3), 40, np.uint8)
    picture[10:16, 60:66] = (250, 20, 20)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def sees_square(messages: list[BaseMessage]) -> str:
    image = pixels(messages[0].content[1]["base64"])  # type: ignore[index]
    red = (image[..., 0] > 0.8) & (image[..., 1] < 0.3)
    return "There is a red square." if red.sum() > 30 else "There is nothing."


def found_by(model: ScriptedChatModel, **options: object) -> PatchMap:
    *_, last = map_patches(model, question(image_block(with_square())), CONFIG, **options)  # type: ignore[arg-type]
    assert isinstance(last, PatchMap)
    return last


def test_heat_is_where_the_answer_comes_from() -> None:
    model = ScriptedChatModel(script=sees_square)
    found = found_by(model, patch=0.2, per_axis=6)
    assert found.answer == "There is a red square."
    assert len(model.received) == 37
    covers = [top <= 15 and top + height > 10 and left <= 65 and left + width > 60
              for top, left, height, width in found.windows]  # fmt: skip
    assert all(covered for covered, flipped in zip(covers, found.flipped, strict=True) if flipped)
    assert found.heat.shape == (60, 80)
    assert found.heat[13, 63] == found.heat.max() > 0.5
    assert found.heat[:, :30].max() == 0
    html = render_patches(found)
    assert html.count("There is nothing.") == sum(found.flipped)


def test_an_answer_that_never_changes_has_no_heat() -> None:
    found = found_by(ScriptedChatModel(script=["Always this."]), per_axis=2)
    assert found.heat.max() == 0
    assert "None of 4 windows changes the answer" in render_patches(found)


def test_refusals_in_other_words_do_not_count_as_a_change() -> None:
    words = ["I can't help with that.", "Sorry, I won't share this."]
    assert not any(found_by(ScriptedChatModel(script=words), per_axis=3).flipped)


def test_failed_calls_do_not_count_as_a_change() -> None:
    found = found_by(ScriptedChatModel(script=["A.", "A.", TimeoutError("late")]), per_axis=3)
    assert not any(found.flipped)


def test_without_an_answer_about_the_uncovered_image_there_is_no_map() -> None:
    def fails_uncovered(messages: list[BaseMessage]) -> str:
        if sees_square(messages) == "There is a red square.":
            raise TimeoutError("late")
        return "There is nothing."

    bright = CONFIG.override(vote={"min_successes": 1}, max_concurrency=1)
    model = ScriptedChatModel(script=fails_uncovered)
    with pytest.raises((TimeoutError, QuorumError)):
        list(map_patches(model, question(image_block(with_square())), bright, patch=0.2, per_axis=3))


@pytest.mark.parametrize("num_images", [0, 2])
def test_it_needs_exactly_one_image(num_images: int) -> None:
    blocks = [image_block()] * num_images or [{"type": "text", "text": "Hi."}]
    with pytest.raises(ConfigurationError, match="exactly one image"):
        list(map_patches(ScriptedChatModel(script=["A."]), question(*blocks), CONFIG))
