"""Units of the noise, its seeds, and where it is made."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.perturbations import (
    CLIP_STD,
    MIN_AUDIO_SIGMA,
    GaussianNoise,
    channel_sigma,
    draw_seed,
    make_generator,
    resolve_device,
    snr_sigma,
)


def test_channel_sigma() -> None:
    assert channel_sigma(0.1, "pixel", (0.5, 0.5, 0.5)) == (0.1, 0.1, 0.1)
    assert channel_sigma(0.1, "normalized") == pytest.approx([0.1 * std for std in CLIP_STD])
    assert channel_sigma(0.2, "normalized", (0.5, 0.25, 1)) == pytest.approx((0.1, 0.05, 0.2))


@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1, "pixel"),
        (math.nan, "normalized"),
        (0.1, "percent"),
        (0.1, "normalized", (0.5, 0.5)),
        (0.1, "normalized", (0.5, 0.0, 0.5)),
    ],
)
def test_bad_channel_sigma_is_rejected(arguments: tuple) -> None:
    with pytest.raises(ConfigurationError):
        channel_sigma(*arguments)


@given(st.floats(0.01, 0.5), st.floats(0, 40))
@settings(deadline=None, max_examples=20)
def test_snr(amplitude: float, snr_db: float) -> None:
    tone = amplitude * torch.sin(torch.arange(16_000) * 0.1)[None]
    sigma = snr_sigma(tone, snr_db)
    if sigma > MIN_AUDIO_SIGMA:
        assert 20 * math.log10(tone.square().mean().sqrt().item() / sigma) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize("waveform", [torch.zeros(1, 1000), torch.zeros(2, 0), torch.full((1, 1000), 1e-7)])
def test_silence_still_gets_noise(waveform: torch.Tensor) -> None:
    assert snr_sigma(waveform, 20.0) == MIN_AUDIO_SIGMA


def test_snr_must_be_finite() -> None:
    with pytest.raises(ConfigurationError):
        snr_sigma(torch.zeros(1, 10), math.inf)


def test_waveforms_stay_in_bounds() -> None:
    batch = torch.sin(torch.arange(4000) * 0.1).expand(5, 2, -1)
    noisy = GaussianNoise(0.3, bounds=(-1.0, 1.0))(batch, generator=make_generator(0))
    assert noisy.shape == batch.shape
    assert noisy.min() == -1
    assert noisy.max() == 1
    middle = batch.abs() < 0.1
    assert (noisy - batch)[middle].std().item() == pytest.approx(0.3, rel=0.05)


def test_seeds_are_drawn_in_range_and_differ() -> None:
    seeds = {draw_seed() for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_are_fixed_and_distinct() -> None:
    def values(*arguments: int) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=make_generator(*arguments)).tolist())

    assert values(3, 1, 2) == values(3, 1, 2)
    streams = [(0,), (1,), (2**63 - 1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len({values(*stream) for stream in streams}) == len(streams)


@pytest.mark.parametrize("numbers", [(-1,), (0, -1)])
def test_negative_seeds_are_rejected(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError):
        make_generator(*numbers)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device().type in {"cuda", "mps", "cpu"}
    with pytest.raises(ConfigurationError, match="abacus"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError):
            resolve_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda() -> None:
    from smoothguard_guardrail.perturbations import build_perturber

    perturb = build_perturber(sigma=(0.1, 0.2, 0.1), low_pass=0.8, max_shift=2, resize_range=(0.8, 1.2))
    batch = torch.rand(1, 3, 32, 32, device="cuda").expand(4, -1, -1, -1)
    first, second = (perturb(batch, generator=make_generator(1, device="cuda")) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
