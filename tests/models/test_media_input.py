"""A local model sees exactly the image or audio that the guard perturbs."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from langchain_core.messages import HumanMessage
from PIL import Image

from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.config import MediaConfig
from smoothguard_guardrail.errors import MediaError, MediaFetchError, UnsupportedMediaError
from smoothguard_guardrail.media import prepare, render_medium
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.media_input import decode_block, mono_waveform
from smoothguard_guardrail.models.prompting import MessageReader
from smoothguard_guardrail.models.reference import reference_path
from tests.media import corpus

SHADES = np.linspace(0, 1, 8 * 6).reshape(8, 6)


@cache
def reference() -> ChatTransformersMultimodal:
    return ChatTransformersMultimodal.from_pretrained(str(reference_path()), max_new_tokens=4, device="cpu")


def reader() -> MessageReader:
    return MessageReader(reference().processor, sampling_rate=corpus.SAMPLING_RATE, takes_images=True)


def saved(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def transparent_palette() -> bytes:
    image = Image.new("P", (6, 8), 0)
    image.putpalette([0, 0, 0, 255, 255, 255])
    return saved(image, transparency=0)


def sideways() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray((SHADES * 255).astype(np.uint8)), exif=exif)


WORDS = (SHADES * 65_535).astype(np.uint16)
IMAGES: dict[str, tuple[bytes, np.ndarray]] = {
    "1": (saved(Image.fromarray(SHADES > 0.5)), (SHADES > 0.5).astype(float)),
    "L": (saved(Image.fromarray((SHADES * 255).astype(np.uint8))), SHADES),
    "transparent LA": (saved(Image.new("LA", (6, 8), (0, 0))), np.ones((8, 6))),
    "transparent RGBA": (saved(Image.new("RGBA", (6, 8), (0, 0, 0, 0))), np.ones((8, 6))),
    "half transparent RGBA": (saved(Image.new("RGBA", (6, 8), (0, 0, 0, 128))), np.full((8, 6), 0.498)),
    "transparent P": (transparent_palette(), np.ones((8, 6))),
    "transparent RGB": (saved(Image.new("RGB", (6, 8)), transparency=(0, 0, 0)), np.ones((8, 6))),
    "I;16": (saved(Image.fromarray(WORDS)), SHADES),
    "I;16B": (saved(Image.frombytes("I;16B", (6, 8), WORDS.astype(">u2").tobytes()), "TIFF"), SHADES),
    "I": (saved(Image.fromarray(WORDS.astype(np.int32)), "TIFF"), SHADES),
    "F": (saved(Image.fromarray(SHADES.astype(np.float32)), "TIFF"), SHADES),
    "CMYK": (saved(Image.fromarray((SHADES * 255).astype(np.uint8)).convert("CMYK"), "TIFF"), SHADES),
    "YCbCr": (
        saved(Image.fromarray((SHADES * 255).astype(np.uint8)).convert("YCbCr"), "TIFF", compression="tiff_lzw"),
        SHADES,
    ),
    "EXIF orientation": (sideways(), np.rot90(SHADES, -1)),
    "first frame": (
        saved(Image.new("RGB", (6, 8)), "GIF", save_all=True, append_images=[Image.new("RGB", (6, 8), "white")]),
        np.zeros((8, 6)),
    ),
}


def guards_media(block: dict[str, Any]) -> torch.Tensor:
    """Return what the guard perturbs of a block."""
    messages = [HumanMessage([block])]
    prepared = prepare(messages, MediaConfig())
    return prepared.media[0].tensor


@pytest.mark.parametrize("name", IMAGES)
def test_every_image_mode_has_the_right_values_for_model_and_guard(name: str) -> None:
    data, expected = IMAGES[name]
    block = {"type": "image", "base64": base64.b64encode(data).decode()}
    seen = decode_block(block)[0].tensor
    assert torch.equal(seen, guards_media(block))
    assert torch.equal(seen, reader()([HumanMessage([block])]).images[0])
    assert seen.shape == (3, *expected.shape)
    assert (seen.double() - torch.from_numpy(expected.copy())).abs().max() < 0.012


WAVE = np.stack([np.sin(np.arange(1_600) / 9), np.sin(np.arange(1_600) / 7)], axis=1).astype(np.float32) * 0.4


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_depth_of_audio_has_the_right_values_for_model_and_guard(subtype: str, channels: int) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, WAVE[:, :channels], corpus.SAMPLING_RATE, format="WAV", subtype=subtype)
    block = {"type": "audio", "base64": base64.b64encode(buffer.getvalue()).decode()}
    [medium] = decode_block(block)
    assert torch.equal(medium.tensor, guards_media(block))
    mono = mono_waveform(medium, corpus.SAMPLING_RATE)
    assert np.abs(mono - WAVE[:, :channels].mean(axis=1)).max() < 0.02
    assert np.array_equal(reader()([HumanMessage([block])]).audio[0], mono)


def hears_or_sees(case: corpus.Case) -> bool:
    """Return whether a case holds media in blocks of its content, rather than in texts, arguments or extra keys."""
    prepared = prepare(case.messages, MediaConfig(on_unsupported="pass"))
    odd = ("odd key", "deep in a text", "png in a reasoning", "tool_use")
    return (
        not case.unsupported
        and bool(prepared.media)
        and all(each.found.span is None and each.found.leaf[1] == "content" for each in prepared.media)
        and not any(words in case.name for words in odd)
    )


@pytest.mark.parametrize("case", [case for case in corpus.CASES if hears_or_sees(case)], ids=lambda case: case.name)
def test_media_in_every_dialect_reach_the_model_as_the_guard_decodes_them(case: corpus.Case) -> None:
    prepared = prepare(case.messages, MediaConfig())
    conversation = reader()(case.messages)
    images = [each.tensor for each in prepared.media if each.kind == "image"]
    audio = [mono_waveform(each, corpus.SAMPLING_RATE) for each in prepared.media if each.kind == "audio"]
    assert len(conversation.images) == len(images)
    assert len(conversation.audio) == len(audio)
    assert all(map(torch.equal, conversation.images, images))
    assert all(map(np.array_equal, conversation.audio, audio))
    blocks = [render_medium(each, each.tensor, as_tensors=True) for each in prepared.media]
    replaced = reader()(prepared.render(blocks))
    assert replaced.turns == conversation.turns


@pytest.mark.parametrize("case", [case for case in corpus.CASES if case.unsupported], ids=lambda case: case.name)
def test_what_a_local_model_cannot_take_is_an_error_with_its_path(case: corpus.Case) -> None:
    in_content = any(isinstance(message.content, list) for message in case.messages)
    is_ignored = case.name in ("png as a key", "bytes of an unknown format")  # the template gets only the text
    if in_content and not is_ignored:
        with pytest.raises((UnsupportedMediaError, MediaFetchError)) as caught:
            reader()(case.messages)
        assert caught.value.path.startswith("messages[0].content[1]")


DIALECTS: dict[str, dict[str, Any]] = {
    "v1": {"type": "image", "base64": corpus.PNG64, "mime_type": "image/png"},
    "v0": {"type": "image", "source_type": "base64", "data": corpus.PNG64, "mime_type": "image/png"},
    "openai": {"type": "image_url", "image_url": {"url": corpus.PNG_URI}},
    "responses": {"type": "input_image", "image_url": corpus.PNG_URI},
    "anthropic": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": corpus.PNG64}},
    "google": {"type": "media", "mime_type": "image/png", "data": corpus.PNG},
    "bedrock": {"image": {"format": "png", "source": {"bytes": corpus.PNG}}},
    "mcp": {"type": "image", "data": corpus.PNG64, "mimeType": "image/png"},
    "hugging face bytes": {"type": "image", "image": corpus.PNG},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_clean_copy_answers_in_every_dialect(dialect: str) -> None:
    config = SmoothGuardConfig.paper(num_samples=3, seed=1)
    messages = [HumanMessage([DIALECTS[dialect], {"type": "text", "text": "What?"}])]
    result = SmoothGuardRunnable(reference(), config=config).guard(messages)
    assert [sample.error for sample in result.samples] == [None] * 3


def test_a_block_without_a_medium_is_an_error() -> None:
    with pytest.raises(UnsupportedMediaError, match="expected a block with an image, audio or PDF"):
        decode_block({"type": "text", "text": "x"})


def test_damaged_media_are_errors() -> None:
    with pytest.raises(MediaError, match="cannot be decoded"):
        decode_block({"type": "image", "base64": base64.b64encode(corpus.PNG[:-300]).decode()})
