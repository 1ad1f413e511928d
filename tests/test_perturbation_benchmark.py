"""The comparison of perturbations: the candidates, and one row from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.perturbations import CANDIDATES, SCENES, measure
from benchmarks.study.design import SCALES
from benchmarks.study.measure import SELECTION_SCENES, TEST_SCENES, Study
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.evaluation.mappers import InThreads


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
