"""At what size media are perturbed, through whatever wraps the model, and that the record says what arrives."""

from __future__ import annotations

import base64
import io
import itertools
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from smoothguard_guardrail import MediaLimitError, SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView, ModelInput
from smoothguard_guardrail.media import scan
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, image_block, pixels, png, question


class Squashing(ScriptedChatModel):
    """Reports that it squashes images to 64 x 64, and that half of the noise arrives."""

    gain: float = 0.5

    def image_input_size(self, height: int, width: int) -> tuple[int, int]:
        return 64, 64

    def image_noise_gain(self, height: int, width: int) -> float:
        return self.gain


def calling(model: ScriptedChatModel) -> RunnableLambda[Any, Any]:
    def call(messages: Any) -> Any:
        return model.invoke(messages)

    return RunnableLambda(call)


WRAPS: dict[str, Any] = {
    "bare": lambda model: model,
    "bind": lambda model: model.bind(stop=["x"]),
    "with_retry": lambda model: model.with_retry(),
    "with_fallbacks": lambda model: model.with_fallbacks([ScriptedChatModel(script=["x"])]),
    "sequence": lambda model: RunnablePassthrough() | model | RunnableLambda(lambda answer: answer),
    "function": calling,
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_the_size_is_found_through_what_wraps_a_model(wrap: Any) -> None:
    model = Squashing(script=["A cat."])
    result = guarded(wrap(model), num_samples=2, sigma=0.05, max_shift=0).guard(question(image_block(png(320, 80))))
    for messages in model.received:
        shown = pixels(scan(messages)[0].value)
        assert shown.shape == (64, 64, 3)
        assert shown.std() == pytest.approx(0.1, rel=0.05)  # twice as strong, since half arrives
    (medium,) = result.media
    assert (medium.size, medium.perturbed_size, medium.size_known_by) == ((320, 80), (64, 64), "measurement")
    assert medium.noise_sd == pytest.approx(0.1, rel=0.05)
    assert medium.effective_sd == pytest.approx(0.05, rel=0.05)


def test_a_provider_is_found_through_its_name_and_an_unknown_model_is_recorded_as_such() -> None:
    model = ChatOpenAI(model="gpt-4o", api_key=SecretStr("none"))
    found = ModelInfo.find(model.with_retry().with_fallbacks([model]))
    assert (found.known_by, found.accepts_tensors) == ("documentation", False)
    assert ModelInput(config=SmoothGuardConfig(), model_info=found).image_gain(768, 1024) == 1.0
    unknown = guarded(ScriptedChatModel(script=["A cat."]), num_samples=2).guard(question())
    assert unknown.media[0].noise_sd is not None
    assert (unknown.media[0].effective_sd, unknown.media[0].size_known_by) == (None, "nothing")


@pytest.mark.parametrize(
    ("hint", "size"),
    [
        ({"detail": "low"}, (512, 512)),
        ({"detail": "high"}, (1024, 1024)),
        ({"resized_height": 224, "resized_width": 448}, (448, 224)),
        ({"resized_height": "224", "resized_width": 224}, (1024, 1024)),
        ({"resized_height": 10**9, "resized_width": 224}, (1024, 1024)),
    ],
)
def test_what_a_block_says_about_its_size_is_obeyed(hint: dict[str, Any], size: tuple[int, int]) -> None:
    medium: dict[str, Any] = {"url": "data:image/png;base64," + image_block(png(1024, 1024))["base64"]}
    for block in ({"image_url": medium} | hint, {"image_url": medium | hint}):
        result = guarded(ScriptedChatModel(script=["A cat."]), num_samples=1).guard(
            question({"type": "image_url"} | block)
        )
        assert result.media[0].perturbed_size == size


def tall_page() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    rows = np.linspace(0, 255, 5_200).astype(np.uint8)
    Image.fromarray(np.repeat(np.repeat(rows[:, None, None], 1_280, 1), 3, 2)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_a_long_page_is_sent_in_bands_that_cover_it() -> None:
    model = ScriptedChatModel(script=["A page."])
    result = guarded(model, num_samples=1, sigma=0.01, max_shift=0).guard(question(image_block(tall_page())))
    blocks = [block for block in model.received[0][0].content if block["type"] == "image"]  # type: ignore[index]
    shown = [pixels(block["base64"]) for block in blocks]
    assert [each.shape[:2] for each in shown] == [(1024, 1024)] * 5 or all(each.shape[0] == 1024 for each in shown)
    assert result.media[0].notes == (f"sent in {len(shown)} bands",)
    ends = [(each[:8].mean(), each[-8:].mean()) for each in shown]
    assert ends[0][0] < 0.02
    assert ends[-1][1] > 0.98
    assert all(before[1] > after[0] for before, after in itertools.pairwise(ends))  # they overlap


@pytest.mark.slow
@pytest.mark.parametrize("nested", ["in text", "as a block", "not decodable"])
def test_what_else_a_block_holds_is_guarded_in_every_band(nested: str) -> None:
    hidden = image_block(png(24, 24)) if nested != "not decodable" else {"type": "file", "file_id": "file-1"}
    other = {"alt": f"See data:image/png;base64,{hidden['base64']}"} if nested == "in text" else {"content": [hidden]}
    media = {"on_unsupported": "drop"}
    made = guarded(ScriptedChatModel(script=["x"]), media=media).perturb(question(image_block(tall_page()) | other))
    secret = hidden.get("base64") or hidden["file_id"]
    assert len(made.messages[0].content) > 4
    assert secret not in str(made.messages)


@pytest.mark.slow
def test_a_long_page_that_cannot_be_cut_is_refused() -> None:
    uri = "data:image/png;base64," + base64.b64encode(tall_page()).decode()
    with pytest.raises(MediaLimitError, match="can't be cut into bands here"):
        guarded(ScriptedChatModel(script=["x"])).guard([HumanMessage(f"See {uri}")])
    with pytest.raises(MediaLimitError, match="too long to be sent legibly"):
        guarded(ScriptedChatModel(script=["x"])).guard(question(image_block(png(1_000, 20_000))))
    made = guarded(ScriptedChatModel(script=["x"]), resolution=1024).guard([HumanMessage(f"See {uri}")])
    assert made.media[0].perturbed_size == (252, 1024)


@pytest.mark.parametrize(
    ("rate", "reported", "heard"), [(48_000, None, 16_000), (48_000, 24_000, 24_000), (8_000, None, 8_000)]
)
def test_audio_is_perturbed_as_the_model_hears_it(rate: int, reported: int | None, heard: int) -> None:
    tone = 0.3 * np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([tone, tone], axis=1), rate, format="WAV")
    block = {"type": "audio", "base64": base64.b64encode(buffer.getvalue()).decode(), "mime_type": "audio/wav"}

    class Hearing(ScriptedChatModel):
        sampling_rate: int | None = reported

    model = Hearing(script=["A tone."])
    (medium,) = guarded(model, num_samples=1).guard(question(block)).media
    wave, arrived = soundfile.read(io.BytesIO(base64.b64decode(model.received[0][0].content[1]["base64"])))  # type: ignore[index]
    assert (arrived, wave.ndim, len(wave)) == (heard, 1, heard)
    assert medium.duration == pytest.approx(1.0)
    clean = 0.3 * np.sin(np.arange(heard) * 2 * np.pi * 440 / heard)
    assert (wave - clean)[100:-100].std() == pytest.approx(medium.noise_sd, rel=0.1)
    assert (medium.effective_sd is None) == (reported is None)


@pytest.mark.slow
def test_large_requests_are_asked_in_smaller_waves() -> None:
    model = ScriptedChatModel(script=["A cat."], delay=0.01)
    blocks = [image_block(png(1024, 1024, level)) for level in range(60, 180, 10)]
    result = guarded(model, num_samples=4).guard(question(*blocks))
    assert (result.num_calls, model.peak_concurrency) == (4, 1)
    small = ScriptedChatModel(script=["A cat."], delay=0.05)
    guarded(small, num_samples=4).guard(question())
    assert small.peak_concurrency > 1


def test_what_media_take_together_is_limited() -> None:
    limits = {"max_total_pixels": 400, "max_count": 9}
    blocks = [image_block(png(16, 12)), image_block(png(16, 12)), image_block(png(16, 12))]
    with pytest.raises(MediaLimitError, match=r"messages\[0\]\.content\[3\]: the request holds more than 400 pixels"):
        guarded(ScriptedChatModel(script=["x"]), limits=limits).guard(question(*blocks))
    with pytest.raises(MediaLimitError, match="decoding takes about"):
        guarded(ScriptedChatModel(script=["x"]), limits={"max_decoding_mib": 1}).guard(
            question(image_block(png(1000, 1000)))
        )


def test_an_attack_may_see_clean_media_and_noise_that_is_not_clipped() -> None:
    config = SmoothGuardConfig(sigma=0.5, image={"max_shift": 0})
    images = torch.full((64, 3, 40, 40), 0.9)
    view = GuardView(config=config, model_info=ModelInfo(), clean_share=0.5)
    seen = view(images, generator=torch.Generator().manual_seed(0))
    clean = (seen == images).flatten(1).all(dim=1)
    assert 20 < clean.sum() < 44, "about half of the draws"
    assert seen.max() == 1
    free = GuardView(config=config, model_info=ModelInfo(), clips=False)
    assert free(images, generator=torch.Generator().manual_seed(0)).max() > 2
