"""The spectrogram that many audio models use as input, with a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from smoothguard_guardrail.errors import ConfigurationError


class LogMel:
    """The log-mel spectrogram of Whisper's feature extractor, differentiable in the waveform.

    transformers takes and returns NumPy arrays, so its own has no gradient. Filters and sizes are the extractor's.

    Source: Radford et al., arXiv 2212.04356, section 2.2; `WhisperFeatureExtractor` in transformers.

    Args:
        extractor: A `WhisperFeatureExtractor`, or one with its `mel_filters`, `n_fft` and `hop_length`.
        device: Where to compute.

    Raises:
        ConfigurationError: The extractor has no mel filters.
    """

    def __init__(self, extractor: Any, device: torch.device | str = "cpu") -> None:
        missing = [name for name in ("mel_filters", "n_fft", "hop_length") if not hasattr(extractor, name)]
        if missing:
            kind = type(extractor).__name__
            raise ConfigurationError(f"expected a feature extractor like Whisper's, got a {kind} without {missing[0]}")
        self.hop_length: int = int(extractor.hop_length)
        self._filters = torch.as_tensor(np.asarray(extractor.mel_filters), dtype=torch.float32, device=device).T
        self._window = torch.hann_window(int(extractor.n_fft), device=device)

    def __call__(self, waveforms: torch.Tensor, num_frames: int) -> torch.Tensor:
        """Compute spectrograms.

        Args:
            waveforms: Float32 (num_rows, samples) in [-1, 1] at the extractor's rate.
            num_frames: Length of the spectrogram; shorter waveforms are padded with silence, longer ones cut.

        Returns:
            Float32 (num_rows, mel filters, num_frames).
        """
        padding = num_frames * self.hop_length - waveforms.shape[1]
        padded = torch.nn.functional.pad(waveforms, (0, padding))  # a negative padding cuts
        size = len(self._window)
        spectrum = torch.stft(padded, size, self.hop_length, window=self._window, return_complex=True)[..., :-1]
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        decades = (self._filters @ power).clamp(min=1e-10).log10()
        loudest = decades.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(decades, loudest - 8) + 4) / 4
