"""Attacks on a coarse grid, and in a window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from smoothguard_guardrail.attacks import PGD, WAVEFORM, LowFrequencyPGD
from smoothguard_guardrail.attacks.ball import Ball
from smoothguard_guardrail.errors import AdapterError, ConfigurationError


def test_the_change_is_an_enlarged_grid_within_epsilon() -> None:
    originals = torch.full((2, 3, 16, 12), 0.5)
    goal = torch.rand(originals.shape, generator=torch.Generator().manual_seed(0))
    attack = LowFrequencyPGD(0.1, grid=2, num_steps=20, seed=0)
    found = attack.run(lambda images, rows: (images - goal[rows]).square().sum(dim=(1, 2, 3)), originals)
    change = found.images - originals
    assert change.abs().max() <= 0.1 + 1e-6
    assert found.loss.sum() < (originals - goal).square().sum()
    # Rounding to 8 bits aside, the change is given by four numbers per channel.
    flat = F.interpolate(torch.eye(4).reshape(4, 1, 2, 2), size=(16, 12), mode="bilinear").reshape(4, -1).T
    columns = change.reshape(6, -1).T
    explained = flat @ torch.linalg.lstsq(flat, columns).solution
    assert (columns - explained).abs().max() < 1 / 255


def test_the_wanted_direction_can_be_avoided_too() -> None:
    originals = torch.full((1, 3, 8, 8), 0.5)
    for targeted, sign in ((True, -1), (False, 1)):
        attack = LowFrequencyPGD(0.1, grid=1, num_steps=5, targeted=targeted, seed=0)
        change = attack.run(lambda images, rows: images.sum(dim=(1, 2, 3)), originals).images - originals
        assert (sign * change > 0.09).all()


@pytest.mark.parametrize("bad", [{"grid": 0}, {"grid": 2, "norm": "l2"}, {"grid": 2, "random_start": True}])
def test_bad_settings_are_rejected(bad: dict) -> None:
    with pytest.raises(ConfigurationError):
        LowFrequencyPGD(0.1, **bad)


@pytest.mark.parametrize("epsilon", [None, 0.2])
@pytest.mark.parametrize("random_start", [False, True])
def test_a_patch_changes_its_window_and_nothing_else(epsilon: float | None, random_start: bool) -> None:
    originals = torch.rand((2, 3, 16, 12), generator=torch.Generator().manual_seed(0))
    attack = PGD(epsilon, window=(3, 2, 5, 4), num_steps=30, step_size=0.05, random_start=random_start, seed=0)
    found = attack.run(lambda images, rows: images.mean(dim=(1, 2, 3)), originals).images
    inside = torch.zeros(16, 12, dtype=torch.bool)
    inside[3:8, 2:6] = True
    moved = (found - originals).abs()
    assert moved[..., ~inside].max() <= 0.5 / 255 + 1e-6, "only rounding to 8 bits changes the rest"
    assert (found[..., inside] < originals[..., inside] - 0.1).float().mean() > 0.7
    if epsilon is not None:
        assert moved.max() <= epsilon + 1e-6


@pytest.mark.parametrize(
    "bad",
    [
        {"window": (0, 0, 0, 4)},
        {"window": (-1, 0, 2, 2)},
        {"window": (0, 0, 2, 2), "norm": "l2"},
        {"window": (0, 0, 2, 2), "space": WAVEFORM},
    ],
)
def test_bad_windows_are_rejected(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="window"):
        PGD(0.1, **bad)


def test_a_window_that_does_not_fit_is_rejected() -> None:
    attack = PGD(0.1, window=(0, 0, 9, 4), num_steps=1)
    with pytest.raises(ConfigurationError, match="does not fit an image of 8 x 8"):
        attack.run(lambda images, rows: images.mean(dim=(1, 2, 3)), torch.zeros(1, 3, 8, 8))


def test_a_change_outside_the_window_is_found() -> None:
    original = torch.zeros(1, 3, 4, 4)
    changed = original.clone()
    changed[..., 3, 3] = 1 / 255
    with pytest.raises(AdapterError, match="outside its window"):
        Ball(epsilon=0.1, window=(0, 0, 2, 2)).verify(changed, original)
