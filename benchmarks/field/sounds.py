"""Ways to perturb audio: the guard's noise, and what could stand beside it.

All take float32 (num_copies, 1, samples) in [-1, 1] and return that shape, differentiably.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.signal import firwin

from benchmarks.field.whisper import SAMPLING_RATE
from smoothguard_guardrail import AudioConfig, SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import GuardView
from smoothguard_guardrail.perturbations import Compose, RandomSpeed
from smoothguard_guardrail.protocols import Perturber


@dataclass(frozen=True, slots=True)
class Guard:
    """Perturbs audio as the guard does.

    Args:
        audio: Its settings.
    """

    audio: AudioConfig

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the perturbed batch."""
        return GuardView(config=SmoothGuardConfig(audio=self.audio), model_info=ModelInfo())(batch, generator=generator)


@dataclass(frozen=True, slots=True)
class TimeShift:
    """Delays or advances every copy by a random time; silence comes in.

    Args:
        seconds: At most.
    """

    seconds: float

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the shifted batch."""
        most, size = round(self.seconds * SAMPLING_RATE), batch.shape[-1]
        starts = torch.randint(0, 2 * most + 1, (len(batch),), generator=generator).tolist()
        padded = torch.nn.functional.pad(batch, (most, most))
        return torch.stack([each[:, start : start + size] for each, start in zip(padded, starts, strict=True)])


@dataclass(frozen=True, slots=True)
class LowPass:
    """Removes what is above a frequency.

    Args:
        hertz: Where the filter lets half of the amplitude through.
    """

    hertz: float

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the filtered batch; nothing is random."""
        kernel = torch.from_numpy(firwin(129, self.hertz, fs=SAMPLING_RATE)).to(batch.dtype)
        return torch.nn.functional.conv1d(batch, kernel[None, None], padding=64).clamp(-1, 1)


@dataclass(frozen=True, slots=True)
class DroppedFrames:
    """Silences random frames of 10 ms.

    Args:
        share: Of the frames.
    """

    share: float

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the batch with gaps."""
        length = SAMPLING_RATE // 100
        kept = torch.rand(len(batch), 1, math.ceil(batch.shape[-1] / length), generator=generator) >= self.share
        return batch * kept.repeat_interleave(length, dim=-1)[..., : batch.shape[-1]]


@dataclass(frozen=True, slots=True)
class MuLaw:
    """Quantises to a few levels that are spaced as the ear hears, with random dither; the gradient passes as it is.

    Source: ITU-T G.711's curve with mu = 255.

    Args:
        bits: Of a sample.
    """

    bits: int

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the quantised batch."""
        with torch.no_grad():
            curved = batch.sign() * torch.log1p(255 * batch.abs()) / math.log(256)
            steps = 2 ** (self.bits - 1) - 1
            dither = torch.rand(batch.shape, generator=generator) - 0.5
            levels = (curved * steps + dither).round().clamp(-steps, steps) / steps
            values = levels.sign() * torch.expm1(levels.abs() * math.log(256)) / 255
        passed: torch.Tensor = batch + (values - batch.detach())
        return passed


def name_of(audio: AudioConfig) -> str:
    """Return how tables call settings of the guard.

    Example:
        >>> name_of(AudioConfig(snr_db=20, speed_range=(1, 1.15)))
        'noise, 20 dB, speed 1 to 1.15'
    """
    speed = "" if audio.speed_range is None else ", speed {:g} to {:g}".format(*audio.speed_range)
    return f"noise, {audio.snr_db:g} dB{speed}"


_SPEECH = SmoothGuardConfig.speech().audio
_SPEEDS = _SPEECH.speed_range or (1.0, 1.0)
FASTER = AudioConfig(speed_range=_SPEEDS)
"""The default's noise at the speeds of the settings for speech."""
_GUARDS = [*(AudioConfig(snr_db=snr_db) for snr_db in (30, 25, 20, 15, 10)), FASTER, _SPEECH]
SPEED_ALONE = "speed {:g} to {:g}".format(*_SPEEDS)
CANDIDATES: dict[str, Perturber] = {
    **{name_of(audio): Guard(audio) for audio in _GUARDS},
    SPEED_ALONE: RandomSpeed(*_SPEEDS),
    "shift, 50 ms": TimeShift(0.05),
    "low-pass, 3 kHz": LowPass(3000),
    "dropped frames, 10 %": DroppedFrames(0.1),
    "mu-law, 5 bits": MuLaw(5),
    "noise, 15 dB, and low-pass, 3 kHz": Compose((Guard(AudioConfig(snr_db=15)), LowPass(3000))),
}
"""By their name in the tables."""
