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
from smoothguard_guardrail.perturbations import Compose
from smoothguard_guardrail.protocols import Perturber


@dataclass(frozen=True, slots=True)
class Noise:
    """Adds noise as the guard does.

    Args:
        snr_db: In dB.
    """

    snr_db: float

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the noisy batch."""
        config = SmoothGuardConfig(audio=AudioConfig(snr_db=self.snr_db))
        return GuardView(config=config, model_info=ModelInfo())(batch, generator=generator)


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
class SpeedChange:
    """Plays every copy faster or slower, by linear interpolation; its pitch changes too.

    Args:
        share: At most, such as 0.03.
    """

    share: float

    def __call__(self, batch: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        """Return the batch at its new speeds: a faster copy ends with silence, a slower one is cut."""
        factors = 1 + self.share * (2 * torch.rand(len(batch), generator=generator) - 1)
        places = torch.arange(batch.shape[-1]) * factors[:, None]
        before = places.long()
        part = (places - before)[:, None]
        padded = torch.nn.functional.pad(batch, (0, int(before.max()) + 2 - batch.shape[-1]))
        low, high = (padded.gather(-1, (before + step)[:, None].expand(batch.shape)) for step in (0, 1))
        return low * (1 - part) + high * part


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


CANDIDATES: dict[str, Perturber] = {
    **{f"noise, {snr} dB": Noise(snr) for snr in (30, 25, 20, 15, 10)},
    "shift, 50 ms": TimeShift(0.05),
    "speed, 3 %": SpeedChange(0.03),
    "low-pass, 3 kHz": LowPass(3000),
    "dropped frames, 10 %": DroppedFrames(0.1),
    "mu-law, 5 bits": MuLaw(5),
    "noise, 15 dB, and speed, 3 %": Compose((SpeedChange(0.03), Noise(15))),
    "noise, 15 dB, and low-pass, 3 kHz": Compose((Noise(15), LowPass(3000))),
}
"""By their name in the tables."""
