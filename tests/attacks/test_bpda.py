from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from smoothguard_guardrail.attacks import EOTPGD, PGD, EightBit, StraightThrough
from smoothguard_guardrail.errors import AdapterError
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.perturbations import GaussianNoise
from tests.attacks.smooth import pictures
from tests.models import tiny

if TYPE_CHECKING:
    from pathlib import Path


def coarse(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
    """Keep nine levels a channel, a defence by bit depth; its gradient is zero wherever there is one."""
    return (images * 8).round() / 8


@pytest.mark.slow
def test_a_defence_without_a_gradient_becomes_attackable(tmp_path: Path) -> None:
    model = ChatTransformersMultimodal.from_pretrained(str(tiny.build_llava(tmp_path)), device="cpu")
    images = pictures(2, 48)
    asked = (["Tell me."] * 2, ["No.", "Yes, there is."])
    blocked = PGD(16 / 255, num_steps=8, seed=0, transform=coarse)(model, images, *asked)
    through = PGD(16 / 255, num_steps=8, seed=0, transform=StraightThrough(coarse))(model, images, *asked)
    assert torch.equal(blocked.images, images)
    assert (through.loss < blocked.loss - 0.1).all()


def test_what_is_seen_is_the_defence_exactly() -> None:
    images = pictures()
    seen = StraightThrough(coarse)(images, generator=torch.Generator())
    assert torch.equal(seen, coarse(images, generator=torch.Generator()))


def test_the_surrogate_draws_what_the_defence_drew() -> None:
    def saved(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        return EightBit()(GaussianNoise(0.1)(images, generator=generator))

    images = pictures().requires_grad_()
    one, other, plain = (torch.Generator().manual_seed(0) for _ in range(3))
    seen = StraightThrough(saved, surrogate=GaussianNoise(0.1))(images, generator=one)
    assert torch.equal(seen, saved(images.detach(), generator=other))
    assert torch.equal(one.get_state(), other.get_state())
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    (expected,) = torch.autograd.grad(GaussianNoise(0.1)(images, generator=plain).sum(), images)
    assert torch.equal(gradient, expected)
    assert 0 < float(gradient.mean()) < 1  # noise clips some


def test_the_identity_passes_through_what_clipping_hides() -> None:
    images = torch.tensor([-0.2, 0.3, 1.4], requires_grad=True)
    seen = EightBit()(images)
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert seen.tolist() == pytest.approx([0, 76 / 255, 1])
    assert gradient.tolist() == [1, 1, 1]


def test_attacks_average_over_a_guarded_and_saved_picture() -> None:
    def defence(images: torch.Tensor, /, *, generator: torch.Generator) -> torch.Tensor:
        return (GaussianNoise(0.05)(images, generator=generator) * 255).round() / 255

    attack = EOTPGD(16 / 255, StraightThrough(defence, GaussianNoise(0.05)), num_steps=6, num_draws=4, seed=0)
    result = attack.run(lambda images, rows: images.mean(dim=(1, 2, 3)), pictures())
    assert (result.loss < result.history[0] - 0.03).all()


def test_shapes_have_to_fit() -> None:
    with pytest.raises(AdapterError, match="surrogate"):
        StraightThrough(lambda images, /, *, generator: images[:1])(pictures(), generator=torch.Generator())
