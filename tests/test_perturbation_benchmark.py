"""The comparison of perturbations: its attack of low frequency, and one row from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.perturbations import CANDIDATES, SCENES, LowFrequencyPGD, measure
from benchmarks.study.design import SCALES
from benchmarks.study.measure import SELECTION_SCENES, TEST_SCENES, Study
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.mappers import InThreads


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


def test_candidates_are_valid_and_the_scenes_are_new() -> None:
    for image in CANDIDATES.values():
        SmoothGuardConfig.reference(image=image)
    assert min(abs(SCENES - used) for used in (TEST_SCENES, SELECTION_SCENES)) > 10


@pytest.mark.slow
def test_a_row(tmp_path: Path) -> None:
    study = Study(folder=tmp_path, scale=replace(SCALES["smoke"], items=2), mapper=InThreads(1))
    row = measure(study, next(iter(CANDIDATES)), num_attacked=1, budget=(1, 2))
    assert len(row) == 5
    assert measure(study, next(iter(CANDIDATES)), num_attacked=1, budget=(1, 2)) == row
