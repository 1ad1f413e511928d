from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from smoothguard_guardrail.attacks import SquareAttack
from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from tests.attacks.smooth import Waves, random_images
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path

NORMS = ["linf", "l2"]


def brightness(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """A score that needs no gradient."""
    return images.mean(dim=(1, 2, 3)).detach()


def test_queries_lower_the_targets_loss(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    result = SquareAttack(32 / 255, num_steps=25, seed=0)(
        model, random_images(2, 48), ["Tell me."] * 2, ["No.", "Yes."]
    )
    assert (result.loss < result.history[0]).all()
    assert torch.allclose(result.loss, result.history.min(dim=0).values)


@pytest.mark.parametrize("norm", NORMS)
def test_the_best_candidate_is_returned_with_its_score(norm: Any) -> None:
    objective = Waves((3, 8, 8), num_rows=3)
    images = random_images(side=8)
    result = SquareAttack(0.2, num_steps=40, norm=norm, seed=0).run(objective, images)
    with objective.frozen():
        assert torch.allclose(objective(result.images, torch.arange(3)), result.loss, atol=1e-6)
    assert torch.equal(result.loss, result.history.min(dim=0).values)
    assert (result.loss < result.history[0]).any()


@pytest.mark.parametrize("norm", NORMS)
def test_untargeted_raises_the_score(norm: Any) -> None:
    images = random_images(side=8)
    up = SquareAttack(0.3, num_steps=40, norm=norm, targeted=False, seed=0).run(brightness, images)
    down = SquareAttack(0.3, num_steps=40, norm=norm, seed=0).run(brightness, images)
    assert (up.loss > brightness(images, torch.arange(3))).all()
    assert (down.loss < brightness(images, torch.arange(3))).all()


@pytest.mark.parametrize("norm", NORMS)
def test_queries_are_counted_and_stop_after_success(norm: Any) -> None:
    asked = torch.zeros(3, dtype=torch.long)
    seen: list[tuple[int, torch.Tensor]] = []

    def score(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked[rows] += 1
        return brightness(images, rows)

    def success(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        mask = asked[rows] >= 3 * (rows + 1)
        seen.extend((int(row), image) for row, image, won in zip(rows, images, mask, strict=True) if won)
        return mask

    result = SquareAttack(0.1, num_steps=50, norm=norm, success=success, seed=0).run(score, random_images(side=8))
    assert result.num_queries is not None
    assert result.num_queries.tolist() == asked.tolist() == [3, 6, 9]
    assert len(result.history) == 9
    for row, image in seen:
        assert torch.equal(result.images[row], image)


def test_a_success_is_returned_even_if_another_scored_better() -> None:
    losses = iter([0.1, 0.5, 0.9])
    attack = SquareAttack(0.1, num_steps=10, seed=0, success=lambda images, rows: images.mean(dim=(1, 2, 3)) > -1)
    result = attack.run(lambda images, rows: torch.full((len(rows),), next(losses)), random_images(1))
    assert result.num_queries is not None
    assert result.num_queries.tolist() == [1]

    answers = iter([False, False, True])
    losses = iter([0.1, 0.5, 0.9])
    attack = SquareAttack(0.1, num_steps=10, seed=0, success=lambda images, rows: torch.tensor([next(answers)]))
    result = attack.run(lambda images, rows: torch.full((len(rows),), next(losses)), random_images(1))
    assert float(result.loss) == pytest.approx(0.9)


@pytest.mark.parametrize("norm", NORMS)
def test_a_seed_repeats_the_search(norm: Any) -> None:
    def run(seed: int) -> torch.Tensor:
        return SquareAttack(0.2, num_steps=8, norm=norm, seed=seed).run(brightness, random_images(side=8)).images

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3, 2, 9), (2, 1, 11, 4)])
def test_images_of_any_shape_can_be_attacked(norm: Any, shape: tuple[int, ...]) -> None:
    images = torch.full(shape, 100 / 255)
    result = SquareAttack(0.2, num_steps=5, norm=norm, seed=0).run(brightness, images)
    assert result.images.shape == images.shape


def test_squares_shrink() -> None:
    shares = [SquareAttack(0.1, num_steps=1000)._share(step) for step in range(1, 1001)]
    assert shares[0] == 0.8
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0.8 / 512


def test_invalid_p_init_and_success_are_refused() -> None:
    for p_init in (0.0, 1.5):
        with pytest.raises(ConfigurationError, match="p_init"):
            SquareAttack(0.1, p_init=p_init)
    with pytest.raises(AdapterError, match="success"):
        SquareAttack(0.1, num_steps=2, success=lambda images, rows: rows).run(brightness, random_images())
