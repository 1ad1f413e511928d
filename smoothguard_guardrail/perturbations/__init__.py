"""From one tensor to many: perturbations of images and audio, their units and their seeds."""

from smoothguard_guardrail.perturbations.compose import Compose, build_perturber
from smoothguard_guardrail.perturbations.cover import CoverWindows, covering_windows
from smoothguard_guardrail.perturbations.geometry import RandomResize, RandomShift, RandomSpeed
from smoothguard_guardrail.perturbations.low_pass import LowPass
from smoothguard_guardrail.perturbations.noise import (
    CLIP_STD,
    MIN_AUDIO_SIGMA,
    GaussianNoise,
    channel_sigma,
    snr_sigma,
)
from smoothguard_guardrail.perturbations.rotation import RandomRotation
from smoothguard_guardrail.perturbations.seeds import draw_seed, make_generator, resolve_device

__all__ = [
    "CLIP_STD",
    "MIN_AUDIO_SIGMA",
    "Compose",
    "CoverWindows",
    "GaussianNoise",
    "LowPass",
    "RandomResize",
    "RandomRotation",
    "RandomShift",
    "RandomSpeed",
    "build_perturber",
    "channel_sigma",
    "covering_windows",
    "draw_seed",
    "make_generator",
    "resolve_device",
    "snr_sigma",
]
