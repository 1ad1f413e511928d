"""The design of the study: compared configurations, candidates for our default, and scales."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from smoothguard_guardrail.config import SmoothGuardConfig

EPSILONS = (8, 16, 32, 64)
"""Radii of the attacks in 255ths, linf."""
ADAPTIVE_EPSILON = 16
SIGMAS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Standard deviations of the noise in pixels of [0, 1]; a guard must perturb, so 0 becomes `SMALLEST_SIGMA`."""
SMALLEST_SIGMA = 1e-6
NUM_COPIES = 12

Budget = tuple[int, int]
"""Steps, and draws of the perturbation per step."""

PAPER_VOTE: dict[str, Any] = {
    "num_samples": 11,
    "include_clean": True,
    "vote": {
        "rule": "sentiment",
        "clusterer": "kmeans",
        "benign_weight": 0.0,
        "min_agreement": 0.0,
        "on_abstain": "answer",
    },
    "early_stop": None,
}
PERTURBATIONS: dict[str, dict[str, Any]] = {
    "shift 6, noise .3": {"sigma": 0.3, "image": {"max_shift": 6}},
    "shift 5, noise .3": {"sigma": 0.3, "image": {"max_shift": 5}},
    "rotation 8°, shift 6, noise .3": {"sigma": 0.3, "image": {"max_shift": 6, "max_rotation": 8.0}},
    "rotation 8°, shift 5, noise .3": {"sigma": 0.3, "image": {"max_shift": 5, "max_rotation": 8.0}},
    "rotation 8°, shift 4, noise .3": {"sigma": 0.3, "image": {"max_shift": 4, "max_rotation": 8.0}},
    "rotation 8°, shift 6, noise .2": {"sigma": 0.2, "image": {"max_shift": 6, "max_rotation": 8.0}},
    "rotation 15°, shift 6, noise .2": {"sigma": 0.2, "image": {"max_shift": 6, "max_rotation": 15.0}},
}
"""Perturbations of images that our preset is chosen from."""
VOTES: dict[str, dict[str, Any]] = {
    f"one refusal of {number}": {
        "num_samples": number,
        "vote": {"refusal_share": 1 / number},
        "early_stop": "lossless",
    }
    for number in (5, 6, 8)
}
"""Votes that it is chosen from."""
CANDIDATES: dict[str, dict[str, Any]] = {
    f"{perturbation}; {vote}": {**changes, **more}
    for perturbation, changes in PERTURBATIONS.items()
    for vote, more in VOTES.items()
}


def guards() -> dict[str, SmoothGuardConfig | None]:
    """Return the rows of the table; None is the bare model."""
    ours = SmoothGuardConfig.reference()
    return {
        "no guard": None,
        "paper": SmoothGuardConfig.paper(),
        "paper's vote, our sigma": SmoothGuardConfig.paper(sigma=ours.sigma, noise_space=ours.noise_space),
        "ours": ours,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Numbers of items and budgets."""

    items: int
    """Items per task in the headline arms."""
    swept: int
    """Items per task in sweeps."""
    candidates: int
    """Images attacked per candidate."""
    arena: int
    """Requests in the arena, spread over `ARENA_SCENES`."""
    fooled: int
    """Questions about images in the arena of wrong answers, spread over the same scenes."""
    gradients: int
    """Gradients on every image of the attackers of the arena that spend most."""
    escalated: int
    """Images attacked with growing budgets per compared guard."""
    num_steps: int
    """Steps of attacks that do not know the guard."""
    candidate_budgets: tuple[Budget, ...]
    budgets: tuple[Budget, ...]
    """Each stage is a new attack with this budget on the images that withstood the stages before."""


_STANDARD = Scale(
    items=100,
    swept=6,
    candidates=12,
    arena=100,
    fooled=20,
    gradients=640,
    escalated=20,
    num_steps=100,
    candidate_budgets=((40, 16),),
    budgets=((50, 16), (100, 16), (475, 16)),
)
SCALES = {
    "smoke": Scale(
        items=12,
        swept=6,
        candidates=2,
        arena=5,
        fooled=5,
        gradients=16,
        escalated=2,
        num_steps=10,
        candidate_budgets=((5, 2),),
        budgets=((5, 2), (10, 2)),
    ),
    "quick": replace(_STANDARD, candidates=6, gradients=320, escalated=10, budgets=_STANDARD.budgets[:2]),
    "standard": _STANDARD,
    "large": Scale(
        items=500,
        swept=200,
        candidates=60,
        arena=500,
        fooled=200,
        gradients=3200,
        escalated=100,
        num_steps=200,
        candidate_budgets=((50, 8), (100, 16), (200, 32)),
        budgets=((25, 8), (50, 16), (100, 16), (200, 16), (400, 32), (1000, 32), (2000, 64)),
    ),
}
"""`standard` is the published one."""
