from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smoothguard_guardrail.attacks import PGD, PIXELS, WAVEFORM, Attack, Ball, SquareAttack, UniversalPGD
from smoothguard_guardrail.attacks.problem import Problem, State
from smoothguard_guardrail.errors import AdapterError, ConfigurationError
from tests.attacks.smooth import Waves, noise, random_images, random_waveforms

SPACES = {"image": PIXELS, "waveform": WAVEFORM}
MEDIA = {"image": random_images, "waveform": random_waveforms}


def size(delta: torch.Tensor, norm: str) -> torch.Tensor:
    """Computed independently of the package."""
    delta = delta.double().flatten(1)
    return delta.abs().max(dim=1).values if norm == "linf" else (delta**2).sum(dim=1).sqrt()


def on_grid(media: torch.Tensor, kind: str) -> bool:
    if kind == "image":
        levels = (media * 255).round().clamp(0, 255)
        return torch.equal(levels / 255, media)
    levels = (media * 2**15).round().clamp(-(2**15), 2**15 - 1)
    return torch.equal(levels / 2**15, media)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["image", "waveform"]),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.004, 0.9),
    options=st.fixed_dictionaries(
        {
            "random_start": st.just(True),
            "num_restarts": st.integers(1, 2),
            "targeted": st.booleans(),
            "momentum": st.sampled_from([0.0, 0.9]),
            "transform": st.sampled_from([None, noise]),
            "num_draws": st.integers(1, 2),
            "seed": st.integers(0, 100),
        }
    ),
)
def test_pgd_stays_in_every_ball(kind: str, norm: Any, epsilon: float, options: dict[str, Any]) -> None:
    originals = MEDIA[kind]()
    attack = PGD(epsilon, num_steps=3, norm=norm, space=SPACES[kind], snapshot_steps=[1], **options)
    result = attack.run(Waves(originals.shape[1:], num_rows=3), originals)
    for found in (result.images, result.snapshots[1]):
        assert (size(found - originals, norm) <= epsilon + 1e-6).all()
        assert on_grid(found, kind)


@settings(max_examples=25, deadline=None)
@given(norm=st.sampled_from(["linf", "l2"]), epsilon=st.floats(0.004, 0.9), seed=st.integers(0, 100))
def test_square_and_universal_attacks_stay_in_every_ball(norm: Any, epsilon: float, seed: int) -> None:
    originals = random_images(side=7)
    square = SquareAttack(epsilon, num_steps=6, norm=norm, seed=seed)
    universal = UniversalPGD(
        epsilon, step_size=epsilon / 2, num_steps=4, norm=norm, seed=seed, minibatch_size=2, random_start=True
    )
    objective = Waves(originals.shape[1:], num_rows=3)
    changed = square.run(objective, originals).images
    one = universal.run(objective, originals[:1], num_rows=3).images
    assert (size(changed - originals, norm) <= epsilon + 1e-6).all()
    assert (size(one - originals[:1], norm) <= epsilon + 1e-6).all()
    assert on_grid(changed, "image")
    assert on_grid(one, "image")


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["image", "waveform"])
def test_without_epsilon_only_the_bounds_hold(kind: str, norm: Any) -> None:
    originals = MEDIA[kind]()
    attack = PGD(None, step_size=0.7, num_steps=6, norm=norm, space=SPACES[kind], random_start=True, seed=0)
    found = attack.run(Waves(originals.shape[1:], num_rows=3), originals).images
    assert on_grid(found, kind)
    assert float((found - originals).abs().max()) > 0.3


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["image", "waveform"]),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0.004, 1.0),
    overshoot=st.floats(0, 3),
    levels=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_rounding_stays_in_the_ball_and_close(
    kind: str, norm: Any, epsilon: float, overshoot: float, levels: bool, seed: int
) -> None:
    original = MEDIA[kind](2, 5, seed)
    ball = Ball(epsilon=epsilon, norm=norm, space=SPACES[kind])
    generator = torch.Generator().manual_seed(seed)
    if not levels:
        original = ball.project(original + 0.3 / ball.space.levels_per_unit, original)
    wild = original + ball.direction(torch.randn(original.shape, generator=generator)) * epsilon * overshoot
    try:
        rounded = ball.round(wild, original)
    except ConfigurationError:
        assert not levels  # an original on levels always lies in its own ball
        return
    assert (size(rounded - original, norm) <= epsilon + 1e-6).all()
    assert on_grid(rounded, kind)
    assert ((rounded - ball.project(wild, original)).abs() <= 2 / ball.space.levels_per_unit).all()


def test_rounding_in_l2_uses_the_whole_radius() -> None:
    original = 64 / 255 + (random_images(4, 32) * 127).round() / 255  # the bounds would shorten changes
    ball = Ball(epsilon=1.0, norm="l2")
    found = ball.round(ball.random_point(original, torch.Generator().manual_seed(0)), original)
    assert (ball.distance(found, original) > 0.99).all()


def test_projection_does_not_move_points_inside_the_ball() -> None:
    original = random_images()
    for norm in ("linf", "l2"):
        ball = Ball(epsilon=0.5, norm=norm)
        inside = ball.project(original + 0.01, original)
        assert torch.allclose(ball.project(inside, original), inside, atol=1e-6)


def test_random_points_are_uniform_in_the_ball() -> None:
    original = torch.full((200, 3, 1, 1), 0.5)
    ball = Ball(epsilon=0.1, norm="l2")
    distance = ball.distance(ball.random_point(original, torch.Generator().manual_seed(0)), original) / 0.1
    # In three dimensions half of the volume lies within 0.5 ** (1 / 3) of the radius.
    assert 0.4 < float((distance < 0.5 ** (1 / 3)).double().mean()) < 0.6


class UncheckedPGD(PGD):
    """Returns candidates that may break the bound."""

    def __init__(self, offset: float, **options: Any) -> None:
        super().__init__(8 / 255, num_steps=1, **options)
        self.offset = offset

    def _candidates(self, problem: Problem, state: State) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        return [state.best + self.offset], [state.best_loss]


@pytest.mark.parametrize(("offset", "message"), [(9 / 255, "left its ball"), (0.5 / 255, "no file"), (2.0, "no file")])
def test_an_attack_that_breaks_its_bound_raises(offset: float, message: str) -> None:
    originals = torch.full((2, 3, 4, 4), 100 / 255)
    with pytest.raises(AdapterError, match=message):
        UncheckedPGD(offset).run(Waves((3, 4, 4), num_rows=2), originals)


def test_invalid_losses_are_reported() -> None:
    attack: Attack = PGD(8 / 255, num_steps=2)
    with pytest.raises(AdapterError, match="NaN"):
        attack.run(lambda media, rows: media.flatten(1).sum(dim=1) * torch.nan, random_images())
    with pytest.raises(AdapterError, match=r"losses \(3,\)"):
        attack.run(lambda media, rows: media.sum(), random_images())


@pytest.mark.parametrize(
    ("epsilon", "options"),
    [
        (3.0, {}),
        (-1.0, {"norm": "l2"}),
        (0.1, {"norm": "l1"}),
        (None, {"norm": "l2"}),
        (None, {"space": WAVEFORM}),
        (0.1, {"num_restarts": 2}),
        (0.1, {"num_restarts": 0, "random_start": True}),
        (0.1, {"num_steps": 5, "snapshot_steps": [6]}),
        (0.1, {"snapshot_steps": [0]}),
    ],
)
def test_invalid_options_are_refused(epsilon: float | None, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        PGD(epsilon, **options)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(3, 4, 4), torch.zeros(0, 3, 4, 4), torch.full((1, 3, 4, 4), 1.5), torch.full((1, 3, 4, 4), torch.nan)],
)
def test_media_outside_their_space_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ConfigurationError, match="image"):
        PGD(0.1).run(Waves((3, 4, 4), num_rows=1), wrong)
