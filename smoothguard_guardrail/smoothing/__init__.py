"""One tensor into many: perturbations of pictures and recordings, their units and their seeds."""

from smoothguard_guardrail.smoothing.compose import Compose, build_perturber
from smoothguard_guardrail.smoothing.geometry import RandomResize, RandomShift
from smoothguard_guardrail.smoothing.low_pass import LowPass
from smoothguard_guardrail.smoothing.noise import (
    CLIP_STD,
    MIN_AUDIO_SIGMA,
    GaussianNoise,
    channel_sigma,
    snr_sigma,
)
from smoothguard_guardrail.smoothing.seeds import draw_seed, make_generator, resolve_device

__all__ = [
    "CLIP_STD",
    "MIN_AUDIO_SIGMA",
    "Compose",
    "GaussianNoise",
    "LowPass",
    "RandomResize",
    "RandomShift",
    "build_perturber",
    "channel_sigma",
    "draw_seed",
    "make_generator",
    "resolve_device",
    "snr_sigma",
]
