"""How much the study of speech measures."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.field.sounds import CANDIDATES, FASTER, SPEED_ALONE, name_of
from benchmarks.field.speech_attacks import Budget
from benchmarks.field.speech_study import Scale
from smoothguard_guardrail import SmoothGuardConfig

DEFAULT = name_of(SmoothGuardConfig().audio)
"""The guard's own setting, by its name among the perturbations."""
SPEECH = name_of(SmoothGuardConfig.speech().audio)
"""The settings for speech."""
_NOISE = tuple(f"noise, {snr_db} dB" for snr_db in (25, 20, 15, 10))
_FASTER = name_of(FASTER)
_FEW = ("noise, 30 dB", *_NOISE, SPEED_ALONE, _FASTER, SPEECH)
_STANDARD = Scale(
    num_sentences=32,
    num_attacked=60,
    budgets=(
        Budget(snr_db=20, num_steps=60),
        Budget(snr_db=25, num_steps=80, num_recordings=10),
        Budget(snr_db=30, num_steps=120, num_recordings=10),
    ),
    adaptive=Budget(snr_db=20, num_steps=60, num_draws=3, num_recordings=10),
    perturbations=_FEW,
    adaptive_to=("noise, 20 dB", "noise, 15 dB", SPEECH),
    num_spoken=20,
)
SCALES = {
    "smoke": Scale(
        num_sentences=4,
        num_attacked=2,
        budgets=(Budget(snr_db=20, num_steps=40),),
        adaptive=Budget(snr_db=20, num_steps=5, num_draws=2, num_recordings=1),
        perturbations=(DEFAULT, SPEED_ALONE),
        adaptive_to=(DEFAULT,),
        num_spoken=2,
    ),
    "standard": _STANDARD,
    "thorough": replace(
        _STANDARD,
        budgets=tuple(replace(each, num_recordings=None) for each in _STANDARD.budgets),
        adaptive=replace(_STANDARD.adaptive, num_recordings=None),
        perturbations=tuple(CANDIDATES),
        adaptive_to=("noise, 20 dB", "noise, 15 dB", _FASTER, SPEECH),
        on_all=("noise, 20 dB", "noise, 15 dB", _FASTER, SPEECH),
    ),
    "large": Scale(
        num_sentences=190,
        num_attacked=64,
        budgets=(
            Budget(snr_db=20, num_steps=100),
            Budget(snr_db=25, num_steps=150),
            Budget(snr_db=30, num_steps=300),
        ),
        adaptive=Budget(snr_db=20, num_steps=150, num_draws=4),
        perturbations=tuple(CANDIDATES),
        adaptive_to=(*_NOISE, _FASTER, SPEECH),
        num_spoken=64,
        on_all=(DEFAULT, SPEECH),
    ),
}
"""`thorough` is the published one: it attacks every recording at every ratio and through every noise."""
