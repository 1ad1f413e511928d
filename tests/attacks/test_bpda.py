from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from smoothguard_guardrail.attacks import EOTPGD, PGD, EightBit, StraightThrough
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import GaussianNoise
from tests.attacks.smooth import random_images
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path


def coarse(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
    """Keep nine levels per channel: a bit-depth defence, whose gradient is zero or undefined."""
    return (images * 8).round() / 8


@pytest.mark.slow
def test_straight_through_makes_a_defence_without_gradient_attackable(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    images = random_images(2, 48)
    asked = (["Tell me."] * 2, ["No.", "Yes, there is."])
    blocked = PGD(16 / 255, num_steps=8, seed=0, transform=coarse)(model, images, *asked)
    through = PGD(16 / 255, num_steps=8, seed=0, transform=StraightThrough(coarse))(model, images, *asked)
    assert torch.equal(blocked.images, images)
    assert (through.loss < blocked.loss - 0.1).all()


def test_straight_through_returns_exactly_the_defences_output() -> None:
    images = random_images()
    seen = StraightThrough(coarse)(images, generator=torch.Generator())
    assert torch.equal(seen, coarse(images, generator=torch.Generator()))


def test_the_surrogate_draws_the_same_numbers_as_the_defence() -> None:
    def saved(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        return EightBit()(GaussianNoise(0.1)(images, generator=generator))

    images = random_images().requires_grad_()
    one, other, plain = (torch.Generator().manual_seed(0) for _ in range(3))
    seen = StraightThrough(saved, surrogate=GaussianNoise(0.1))(images, generator=one)
    assert torch.equal(seen, saved(images.detach(), generator=other))
    assert torch.equal(one.get_state(), other.get_state())
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    (expected,) = torch.autograd.grad(GaussianNoise(0.1)(images, generator=plain).sum(), images)
    assert torch.equal(gradient, expected)
    assert 0 < float(gradient.mean()) < 1  # noise clips some


def test_eight_bit_has_the_gradient_of_the_identity() -> None:
    images = torch.tensor([-0.2, 0.3, 1.4], requires_grad=True)
    seen = EightBit()(images)
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert seen.tolist() == pytest.approx([0, 76 / 255, 1])
    assert gradient.tolist() == [1, 1, 1]


def test_eot_attacks_a_noisy_and_rounding_defence() -> None:
    def defence(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        return (GaussianNoise(0.05)(images, generator=generator) * 255).round() / 255

    attack = EOTPGD(16 / 255, StraightThrough(defence, GaussianNoise(0.05)), num_steps=6, num_draws=4, seed=0)
    result = attack.run(lambda images, rows: images.mean(dim=(1, 2, 3)), random_images())
    assert (result.loss < result.history[0] - 0.03).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(AdapterError, match="surrogate"):
        StraightThrough(lambda images, /, *, generator: images[:1])(random_images(), generator=torch.Generator())
