"""What holds of every perturbation of pictures."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.perturbations import (
    Compose,
    GaussianNoise,
    LowPass,
    RandomResize,
    RandomRotation,
    RandomShift,
    RandomSpeed,
    build_perturber,
    make_generator,
)

sizes = st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))
options = st.fixed_dictionaries(
    {
        "sigma": st.sampled_from([0.0, 0.1, 0.5, (0.1, 0.0, 0.3)]),
        "low_pass": st.sampled_from([0.0, 1e-3, 0.8, 7.0]),
        "max_shift": st.sampled_from([0, 1, 30]),
        "max_rotation": st.sampled_from([0.0, 8.0, 180.0]),
        "resize_range": st.sampled_from([None, (1.0, 1.0), (0.1, 0.9), (0.5, 2.0), (4.0, 4.0)]),
    }
)


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(1)).expand(count, -1, -1, -1)


@given(sizes, options, st.integers(0, 2**63 - 1))
@settings(deadline=None, max_examples=60)
def test_shape_dtype_bounds_and_repeatability(size: tuple[int, int, int], options: dict, seed: int) -> None:
    batch = pictures(*size)
    before = batch.clone()
    perturb = build_perturber(**options)
    first = perturb(batch, generator=make_generator(seed))
    assert first.shape == batch.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, perturb(batch, generator=make_generator(seed)))
    assert torch.equal(batch, before), "the caller's batch was changed"


@given(sizes, options)
@settings(deadline=None, max_examples=40)
def test_gradient_reaches_the_image(size: tuple[int, int, int], options: dict) -> None:
    count, height, width = size
    picture = torch.full((1, 3, height, width), 0.5, requires_grad=True)
    result = build_perturber(**options)(picture.expand(count, -1, -1, -1), generator=make_generator(0))
    result.sum().backward()
    assert picture.grad is not None
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().sum() > 0


def test_the_same_values_with_and_without_a_gradient() -> None:
    perturb = build_perturber(sigma=0.2, low_pass=0.8, max_shift=2, max_rotation=10, resize_range=(0.8, 1.2))
    batch = pictures(3, 12, 9)
    plain = perturb(batch, generator=make_generator(4))
    tracked = perturb(batch.clone().requires_grad_(), generator=make_generator(4))
    assert torch.equal(plain, tracked.detach())


def test_gradient_is_the_derivative() -> None:
    perturb = build_perturber(sigma=0.01, low_pass=0.8, max_shift=1, max_rotation=20, resize_range=(0.7, 1.3))
    batch = (0.4 + 0.2 * pictures(2, 4, 5)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: perturb(x, generator=make_generator(3)), (batch,))


@given(sizes)
@settings(deadline=None, max_examples=20)
def test_everything_off_is_the_identity(size: tuple[int, int, int]) -> None:
    batch = pictures(*size)
    assert torch.equal(build_perturber(sigma=0)(batch, generator=make_generator(0)), batch)
    assert torch.equal(build_perturber(sigma=(0, 0, 0))(batch, generator=make_generator(0)), batch)


@pytest.mark.parametrize("sigma", [0.02, 0.1, (0.05, 0.1, 0.02)])
def test_noise_has_the_given_sd(sigma: float | tuple[float, float, float]) -> None:
    batch = torch.full((8, 3, 64, 64), 0.5)
    delta = GaussianNoise(sigma)(batch, generator=make_generator(0)) - batch
    wanted = (sigma,) * 3 if isinstance(sigma, float) else sigma
    for channel, sd in enumerate(wanted):
        assert delta[:, channel].std().item() == pytest.approx(sd, rel=0.02)
        assert abs(delta[:, channel].mean().item()) < 0.02 * sd


def test_copies_differ() -> None:
    for perturb in (GaussianNoise(0.1), RandomShift(5), RandomRotation(10), RandomResize(0.5, 1.0)):
        copies = perturb(pictures(6, 16, 16), generator=make_generator(0))
        assert len({copy.numpy().tobytes() for copy in copies}) > 1


def test_shift_moves_by_whole_pixels_without_wrapping() -> None:
    picture = torch.arange(30.0).reshape(1, 1, 5, 6).expand(40, 3, -1, -1) / 30
    moved = RandomShift(2)(picture, generator=make_generator(0))
    rows, columns = np.arange(5), np.arange(6)
    possible = {
        (picture[0, 0].numpy()[np.clip(rows + down, 0, 4)][:, np.clip(columns + right, 0, 5)]).tobytes(): (down, right)
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    seen = {possible[copy[0].numpy().tobytes()] for copy in moved}
    assert len(seen) > 10


def test_resize_places_at_random_and_keeps_flat_images_flat() -> None:
    flat = torch.full((5, 3, 9, 7), 0.25)
    assert torch.allclose(RandomResize(0.3, 3.0)(flat, generator=make_generator(0)), flat)
    dot = torch.zeros(30, 3, 21, 21)
    dot[:, :, 10, 10] = 1
    places = {int(copy[0].argmax()) for copy in RandomResize(0.5, 0.5)(dot, generator=make_generator(0))}
    assert len(places) > 10


def test_rotation_keeps_distances_from_the_centre_and_flat_images_flat() -> None:
    flat = torch.full((5, 3, 9, 7), 0.25)
    assert torch.allclose(RandomRotation(180)(flat, generator=make_generator(0)), flat)
    wide = torch.zeros(30, 3, 41, 61)
    wide[:, :, 20, 45] = 1  # 15 pixels to the right of the centre
    rows, columns = torch.arange(41.0) - 20, torch.arange(61.0) - 30
    angles = []
    for copy in RandomRotation(40)(wide, generator=make_generator(0)):
        weights = copy[0] / copy[0].sum()
        down, right = (weights.sum(1) * rows).sum(), (weights.sum(0) * columns).sum()
        assert torch.hypot(down, right).item() == pytest.approx(15, abs=0.3)
        angles.append(math.degrees(math.atan2(down, right)))
    assert -41 < min(angles) < -20
    assert 20 < max(angles) < 41


@given(sizes, st.sampled_from([0.3, 0.8, 0.97]))
@settings(deadline=None, max_examples=30)
def test_a_smaller_copy_is_whole(size: tuple[int, int, int], factor: float) -> None:
    batch = pictures(*size)
    height, width = (max(1, round(side * factor)) for side in size[1:])
    whole = F.interpolate(batch[:1], size=(height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    for copy in RandomResize(factor, factor)(batch, generator=make_generator(0)):
        windows = copy.unfold(1, height, 1).unfold(2, width, 1)
        differences = (windows - whole[:, None, None]).abs().amax(dim=(0, 3, 4))
        assert differences.min() < 1e-6


@given(st.integers(1, 12), st.sampled_from([0.3, 1.0, 2.5]))
@settings(deadline=None)
def test_low_pass_is_the_gaussian_of_a_reflected_image(size: int, sd: float) -> None:
    row = np.random.default_rng(size).random(size).astype(np.float32)
    radius = math.ceil(3 * sd)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sd) ** 2)
    expected = np.convolve(np.pad(row, radius, mode="reflect"), weights / weights.sum(), mode="valid")
    picture = torch.from_numpy(row).reshape(1, 1, 1, size)
    for batch, axis in ((picture, -1), (picture.transpose(-1, -2), -2)):
        smooth = LowPass(sd)(batch, generator=torch.Generator()).select(axis + (1 if axis == -2 else -1), 0)
        np.testing.assert_allclose(smooth.flatten().numpy(), expected, atol=1e-6)


def test_a_faster_copy_is_whole_at_a_random_place_and_a_slower_one_is_cut() -> None:
    time = torch.arange(4000) / 16_000
    tone = torch.sin(2 * math.pi * 400 * time).expand(30, 2, -1)
    starts = []
    for copy in RandomSpeed(1.25, 1.25)(tone, generator=make_generator(0)):
        heard = copy[0].nonzero()[:, 0]
        starts.append(int(heard[0]))
        assert torch.equal(copy[0], copy[1])
        assert int(heard[-1]) - int(heard[0]) == pytest.approx(3200, abs=3)
        part = copy[0, starts[-1] : starts[-1] + 3200]
        assert torch.fft.rfft(part).abs().argmax() == 100, "400 Hz are played as 500"
    assert len(set(starts)) > 20
    assert min(starts) >= 0
    assert max(starts) <= 803
    for copy in RandomSpeed(0.8, 0.8)(tone, generator=make_generator(0)):
        assert torch.fft.rfft(copy[0]).abs().argmax() == 80, "400 Hz are played as 320"


def test_speeds_are_uniform_in_their_range_and_pass_the_gradient() -> None:
    ones = torch.ones(400, 1, 1000, requires_grad=True)
    played = RandomSpeed(1.0, 2.0)(ones, generator=make_generator(0))
    speeds = 1000 / played.detach().sum(dim=(1, 2))
    assert speeds.min().item() == pytest.approx(1, abs=0.02)
    assert speeds.max().item() == pytest.approx(2, abs=0.02)
    assert speeds.mean().item() == pytest.approx(1.5, abs=0.05)
    played.sum().backward()
    assert ones.grad is not None
    assert ones.grad.sum().item() == pytest.approx(float(played.detach().sum()), rel=1e-3)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_shortest_audio_has_a_speed(samples: int) -> None:
    batch = torch.full((8, 1, samples), 0.5)
    for low, high in ((1.0, 1.3), (0.7, 1.0), (1.0, 1.0)):
        assert RandomSpeed(low, high)(batch, generator=make_generator(0)).shape == batch.shape


def test_order_is_geometry_noise_low_pass() -> None:
    perturb = build_perturber(sigma=0.1, low_pass=1.0, max_shift=1, max_rotation=5, resize_range=(0.9, 1.1))
    assert [type(part) for part in perturb.parts] == [RandomResize, RandomRotation, RandomShift, GaussianNoise, LowPass]
    batch = pictures(2, 8, 8)
    by_hand, generator = batch, make_generator(5)
    for part in perturb.parts:
        by_hand = part(by_hand, generator=generator)
    assert torch.equal(perturb(batch, generator=make_generator(5)), by_hand)


def test_composition_is_associative() -> None:
    parts = (RandomShift(1), GaussianNoise(0.1), LowPass(0.5))
    batch = pictures(2, 8, 8)
    results = [
        perturb(batch, generator=make_generator(5))
        for perturb in (
            Compose(parts),
            Compose((Compose(parts[:1]), Compose(parts[1:]))),
            Compose((*parts, Compose(()))),
        )
    ]
    assert all(torch.equal(first, second) for first, second in pairwise(results))


@pytest.mark.parametrize(
    "bad",
    [
        {"sigma": -0.1},
        {"sigma": math.nan},
        {"sigma": ()},
        {"sigma": (0.1, -0.1, 0.1)},
        {"sigma": 0.1, "low_pass": -1.0},
        {"sigma": 0.1, "low_pass": math.inf},
        {"sigma": 0.1, "max_shift": -1},
        {"sigma": 0.1, "max_shift": 1.5},
        {"sigma": 0.1, "max_rotation": -1.0},
        {"sigma": 0.1, "max_rotation": 181.0},
        {"sigma": 0.1, "max_rotation": math.nan},
        {"sigma": 0.1, "resize_range": (0.0, 1.0)},
        {"sigma": 0.1, "resize_range": (1.2, 0.8)},
    ],
)
def test_bad_values_are_rejected(bad: dict) -> None:
    with pytest.raises(ConfigurationError):
        build_perturber(**bad)


@pytest.mark.parametrize("speeds", [(0.0, 1.0), (1.2, 0.8), (1.0, math.inf), (math.nan, 1.0)])
def test_bad_speeds_are_rejected(speeds: tuple[float, float]) -> None:
    with pytest.raises(ConfigurationError, match="speed_range"):
        RandomSpeed(*speeds)


def test_bad_bounds_and_channels_are_rejected() -> None:
    with pytest.raises(ConfigurationError):
        GaussianNoise(0.1, bounds=(1.0, 0.0))
    with pytest.raises(ConfigurationError, match=r"one per channel \(1\), got 3"):
        GaussianNoise((0.1, 0.2, 0.3))(torch.zeros(2, 1, 4, 4), generator=make_generator(0))
