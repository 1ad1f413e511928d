from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from smoothguard_guardrail.attacks import EOTPGD, TargetLoss, UniversalPGD
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import GaussianNoise
from tests.attacks.smooth import Waves, noise, random_images
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS = ["What do you see?", "Is there a red circle in the picture?", "Tell me."]
TARGETS = ["Yes, there is.", "No.", "A small blue square."]


def test_one_image_lowers_the_loss_of_the_whole_corpus(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    image = random_images(1, 48)
    attack = UniversalPGD(step_size=4 / 255, num_steps=12, minibatch_size=2, seed=0, snapshot_steps=[4])
    result = attack(model, image[0], QUESTIONS, TARGETS)
    assert result.images.shape == result.snapshots[4].shape == (1, 3, 48, 48)
    assert result.history.shape == (12, 1)
    objective = TargetLoss(model, image.expand(3, -1, -1, -1), QUESTIONS, TARGETS)
    with torch.no_grad():
        before = objective(image.expand(3, -1, -1, -1), torch.arange(3)).mean()
        after = objective(result.images.expand(3, -1, -1, -1), torch.arange(3)).mean()
    assert after < before
    assert float(result.loss) == pytest.approx(float(after), abs=1e-3)


@pytest.mark.parametrize("num_restarts", [1, 2])
def test_steps_use_a_minibatch_and_the_final_choice_the_whole_corpus(num_restarts: int) -> None:
    objective = Waves((3, 6, 6), num_rows=10)
    attack = UniversalPGD(
        num_steps=5, minibatch_size=4, seed=0, max_batch_size=None, num_restarts=num_restarts, random_start=True
    )
    attack.run(objective, random_images(1), num_rows=10)
    assert objective.evaluations == num_restarts * (5 * 4 + 2 * 10)


def test_the_loss_is_that_of_the_whole_corpus() -> None:
    objective = Waves((3, 6, 6), num_rows=10)
    result = UniversalPGD(num_steps=5, seed=0, max_batch_size=3).run(objective, random_images(1), num_rows=10)
    with objective.frozen():
        expected = objective(result.images.expand(10, -1, -1, -1), torch.arange(10)).mean()
    assert float(result.loss) == pytest.approx(float(expected), abs=1e-5)


def test_a_seed_repeats_the_minibatches() -> None:
    def run(seed: int) -> torch.Tensor:
        attack = UniversalPGD(num_steps=5, minibatch_size=2, seed=seed, transform=noise, num_draws=2)
        return attack.run(Waves((3, 6, 6), num_rows=10), random_images(1), num_rows=10).images

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_eot_averages_over_sixteen_draws_by_default() -> None:
    objective = Waves((3, 6, 6), num_rows=2)
    attack = EOTPGD(8 / 255, GaussianNoise(0.1), num_steps=3, seed=0)
    result = attack.run(objective, random_images(2))
    assert objective.evaluations == 16 * 2 * (3 + 2)
    assert result.history.shape == (3, 2)


def test_universal_needs_one_image_and_a_corpus(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    for image, questions in (
        (random_images(1, 48), QUESTIONS),
        (random_images(1, 48)[0], QUESTIONS[:2]),
        (random_images(1)[0], []),
    ):
        with pytest.raises(ConfigurationError, match="3, height, width"):
            UniversalPGD()(model, image, questions, TARGETS)
    with pytest.raises(ConfigurationError, match="minibatch_size"):
        UniversalPGD(minibatch_size=0)
