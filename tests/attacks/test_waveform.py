from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.attacks.spectrogram import LogMel
from smoothguard_guardrail.attacks.waveform import FEATURE_TOLERANCE, WaveformLoss, WaveformPGD, wav_bytes
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import GaussianNoise
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

RATE = 16_000
EPSILON = 0.02
GUARD = GaussianNoise(0.01, bounds=(-1.0, 1.0))  # what the guard does to audio
QUESTIONS = ["What do you see?", "Tell me."]
TARGETS = ["A small blue square on a grey ground.", "No."]


@pytest.fixture(scope="module")
def audio_model(tmp_path_factory: pytest.TempPathFactory) -> ChatTransformersMultimodal:
    folder = tiny.build_qwen2_audio(tmp_path_factory.mktemp("audio"))
    return ChatTransformersMultimodal.from_pretrained(str(folder), device="cpu", max_new_tokens=5)


def tone(samples: int, seed: int) -> torch.Tensor:
    """A chord with some noise, on 16-bit levels."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(samples) / RATE
    frequencies = 200 + 1800 * torch.rand(3, generator=generator)
    chord = torch.sin(2 * torch.pi * frequencies[:, None] * times).mean(dim=0)
    wave = 0.5 * chord + 0.02 * torch.randn(samples, generator=generator)
    return (wave * 2**15).round().clamp(-(2**15), 2**15 - 1) / 2**15


def user_loss(chat: ChatTransformersMultimodal, wav: bytes, question: str, target: str) -> float:
    """The target's loss for a WAV in a message, computed with plain labels and without the attack's code."""
    block = {"type": "audio", "base64": base64.b64encode(wav).decode(), "mime_type": "audio/wav"}
    conversation = chat.engine.read([HumanMessage([block, {"type": "text", "text": question}])])
    inputs = chat.engine.encode([conversation])
    answer = torch.tensor([chat.engine.answer_ids(conversation, target)])
    labels = torch.cat([torch.full_like(inputs["input_ids"], -100), answer], dim=1)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        return float(chat.hf_model(**inputs, labels=labels).loss)


@pytest.mark.parametrize(("mel_filters", "samples"), [(80, 3 * RATE), (128, RATE + 77), (16, 200)])
def test_the_spectrogram_equals_the_feature_extractors(mel_filters: int, samples: int) -> None:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=mel_filters, chunk_length=2)  # seconds: three are cut to two
    waves = torch.stack([tone(samples, seed) for seed in (0, 1)] + [torch.zeros(samples)])
    own = extractor(list(waves.numpy()), sampling_rate=RATE, return_tensors="pt")["input_features"]
    ours = LogMel(extractor)(waves, own.shape[2])
    assert ours.shape == own.shape
    assert (ours - own).abs().max() <= FEATURE_TOLERANCE / 10


def test_the_gradient_reaches_every_sample(audio_model: ChatTransformersMultimodal) -> None:
    waves = torch.stack([tone(8000, 0), tone(8000, 1)])[:, None].requires_grad_()
    losses = WaveformLoss(audio_model, waves[:, 0], QUESTIONS, TARGETS)(waves, torch.arange(2))
    losses.sum().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert (waves.grad != 0).float().mean() > 0.98


def test_silence_has_a_finite_gradient(audio_model: ChatTransformersMultimodal) -> None:
    waves = torch.zeros(1, 1, 8000, requires_grad=True)
    WaveformLoss(audio_model, waves[:, 0], QUESTIONS[:1], TARGETS[:1])(waves, torch.arange(1)).sum().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()


@pytest.mark.parametrize("lengths", [(8000, 8000), (8000, 11_001)])
def test_the_attack_lowers_the_loss_that_a_user_would_see(
    audio_model: ChatTransformersMultimodal, lengths: tuple[int, ...]
) -> None:
    waveforms = [tone(length, seed) for seed, length in enumerate(lengths)]
    result = WaveformPGD(EPSILON, num_steps=10, seed=0)(audio_model, waveforms, QUESTIONS, TARGETS)
    assert result.history.shape == (10, 2)
    assert (result.loss < result.history[0] - 0.05).all()
    for row, (original, found) in enumerate(zip(waveforms, result.waveforms, strict=True)):
        assert found.shape == original.shape
        assert (found - original).abs().max() <= EPSILON + 1e-6
        wav = wav_bytes(found, RATE)
        loaded, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
        assert rate == RATE
        assert np.array_equal(loaded, found.numpy())
        before = user_loss(audio_model, wav_bytes(original, RATE), QUESTIONS[row], TARGETS[row])
        after = user_loss(audio_model, wav, QUESTIONS[row], TARGETS[row])
        assert before == pytest.approx(float(result.history[0, row]), abs=2e-3)
        assert after == pytest.approx(float(result.loss[row]), abs=2e-3)


@pytest.mark.slow
def test_the_attack_goes_through_a_random_defence(audio_model: ChatTransformersMultimodal) -> None:
    waveforms = torch.stack([tone(8000, 0), tone(8000, 1)])
    attack = WaveformPGD(2 * EPSILON, num_steps=8, seed=0, transform=GUARD, num_draws=3)
    result = attack(audio_model, waveforms, QUESTIONS, TARGETS)
    assert (result.history[-3:].mean(dim=0) < result.history[0]).all()
    again = attack(audio_model, waveforms, QUESTIONS, TARGETS)
    assert all(torch.equal(one, other) for one, other in zip(result.waveforms, again.waveforms, strict=True))


def test_untargeted_attacks_raise_the_loss(audio_model: ChatTransformersMultimodal) -> None:
    result = WaveformPGD(0.5, num_steps=5, norm="l2", targeted=False)(
        audio_model, [tone(8000, 2)], QUESTIONS[:1], TARGETS[:1]
    )
    assert (result.loss > result.history[0]).all()
    assert (result.waveforms[0] - tone(8000, 2)).norm() <= 0.5 + 1e-3


@settings(max_examples=30, deadline=None)
@given(levels=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=50))
def test_wav_bytes_decode_to_the_same_samples(levels: list[int]) -> None:
    wave = torch.tensor(levels, dtype=torch.float32) / 2**15
    loaded, _ = soundfile.read(io.BytesIO(wav_bytes(wave, RATE)), dtype="float32")
    assert np.array_equal(loaded, wave.numpy())


def test_half_precision_models_return_float32_losses_and_gradients(tmp_path: Path) -> None:
    folder = str(tiny.build_qwen2_audio(tmp_path))
    chat = ChatTransformersMultimodal.from_pretrained(folder, device="cpu", dtype="bfloat16")
    waves = tone(8000, 0)[None, None].requires_grad_()
    losses = WaveformLoss(chat, waves[:, 0], QUESTIONS[:1], TARGETS[:1])(waves, torch.arange(1))
    losses.sum().backward()
    assert losses.dtype == torch.float32
    assert waves.grad is not None
    assert waves.grad.dtype == torch.float32
    assert (waves.grad != 0).float().mean() > 0.9


def test_models_with_other_features_are_refused(audio_model: ChatTransformersMultimodal, tmp_path: Path) -> None:
    llava = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path / "llava")), device="cpu")
    with pytest.raises(ConfigurationError, match="takes no audio"):
        WaveformPGD(EPSILON)(llava, [tone(8000, 0)], QUESTIONS[:1], TARGETS[:1])
    other = ChatTransformersMultimodal.from_pretrained(str(tiny.build_qwen2_audio(tmp_path / "audio")), device="cpu")
    # An extractor that normalises the waveform first returns other features.
    extractor = type(other.processor.feature_extractor)

    class Normalising(extractor):  # type: ignore[misc, valid-type]
        def __call__(self, *args: object, **kwargs: object) -> object:
            return super().__call__(*args, **kwargs, do_normalize=True)

    other.processor.feature_extractor.__class__ = Normalising
    with pytest.raises(ConfigurationError, match="Whisper's log-mel"):
        WaveformPGD(EPSILON)(other, [tone(8000, 0)], QUESTIONS[:1], TARGETS[:1])


@pytest.mark.parametrize(
    ("waveforms", "match"),
    [([], "at least one"), ([torch.zeros(1, 100)], "one channel"), ([torch.full((100,), 2.0)], "must lie in")],
)
def test_invalid_waveforms_are_refused(
    audio_model: ChatTransformersMultimodal, waveforms: list[torch.Tensor], match: str
) -> None:
    size = len(waveforms)
    with pytest.raises(ConfigurationError, match=match):
        WaveformPGD(EPSILON)(audio_model, waveforms, QUESTIONS[:size], TARGETS[:size])


def test_extractors_without_mel_filters_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="mel_filters"):
        LogMel(object())
