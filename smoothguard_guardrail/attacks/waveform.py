"""White-box attacks on audio: the loss of an answer, with a gradient in the samples, and PGD on it."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from smoothguard_guardrail.attacks.objective import AnswerLoss
from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.space import WAVEFORM, Space
from smoothguard_guardrail.attacks.spectrogram import LogMel
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks.result import ProgressCallback
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

FEATURE_TOLERANCE = 1e-4
"""How far the spectrogram may be from the model's own; its unit is four decades of power, so this is 0.004 dB."""


class WaveformLoss(AnswerLoss):
    """Negative log-likelihood of one answer per waveform, through a spectrogram that keeps a gradient.

    Everything else is as for a user's request: chat template, processor, forward pass. The spectrogram is first
    compared with that of the model's own feature extractor; they may differ by `FEATURE_TOLERANCE` at most.

    Args:
        model: The model under attack.
        waveforms: Float32 (batch, samples) in [-1, 1], at the model's `sampling_rate`.
        questions: What is asked, one per waveform.
        targets: The wanted answer, one per waveform.

    Raises:
        ConfigurationError: The model takes no audio, or uses other features than Whisper's.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        waveforms: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        rate = model.sampling_rate
        if rate is None:
            raise ConfigurationError("this model takes no audio: attack one that does, such as Qwen2-Audio")
        blocks = [{"type": "audio", "audio": wave, "sampling_rate": rate} for wave in waveforms]
        super().__init__(model, blocks, questions, targets)
        processor = model.engine.processor
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self._log_mel = LogMel(extractor, model.engine.device)
        self._num_frames, self._dtype = self._check_features(waveforms[:1])

    def __call__(self, waveforms: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss of waveforms.

        Args:
            waveforms: Float32 (num_rows, 1, samples) in [-1, 1].
            rows: Int64 (num_rows,): which question and target goes with each waveform.

        Returns:
            Float32 (num_rows,): negative log-likelihood of the target, nats per token.
        """
        mono = waveforms.mean(dim=1)
        indices = rows.tolist()
        # The processor only sets the numbers of frames and tokens, which depend on the length.
        arrays = mono.detach().cpu().numpy()
        conversations = [
            replace(self._conversations[row], audio=[wave]) for row, wave in zip(indices, arrays, strict=True)
        ]
        features = self._log_mel(mono, self._num_frames).to(self._dtype)
        return self._losses(conversations, indices, input_features=features)

    def _check_features(self, waveforms: torch.Tensor) -> tuple[int, torch.dtype]:
        """Return the number of frames and the dtype of the model's own spectrogram if ours is the same."""
        own = self._engine.encode(self._conversations[:1]).get("input_features")
        if own is not None and own.ndim == 3:
            ours = self._log_mel(waveforms.detach().to(own.device, torch.float32), own.shape[2]).to(own.dtype)
            tolerance = FEATURE_TOLERANCE + 2 * torch.finfo(own.dtype).eps
            if ours.shape == own.shape and torch.allclose(ours.float(), own.float(), rtol=0, atol=tolerance):
                return int(own.shape[2]), own.dtype
        kind = type(self._engine.processor).__name__
        raise ConfigurationError(f"expected a model that uses Whisper's log-mel spectrogram, got one with {kind}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformResult:
    """Adversarial audio.

    Attributes:
        waveforms: Float32 (samples,) each, exact multiples of 1/32768, within epsilon of the originals.
        loss: Float32 (batch,): loss of these waveforms under the evaluation transform, nats per target token.
        history: Float32 (num_steps, batch): loss before each step.
    """

    waveforms: list[torch.Tensor]
    loss: torch.Tensor
    history: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class WaveformPGD(PGD):
    """PGD on audio, for models that use Whisper's log-mel spectrogram, such as Qwen2-Audio.

    Takes the settings of `PGD`; epsilon is in samples of [-1, 1], such as 0.005, and a transform is called with
    float32 (num_rows, 1, samples). Waveforms of one length are attacked together, those of different lengths one
    after another: nothing is padded, so a transform sees what the defence would see. The result fits 16-bit WAV
    files: write them with `wav_bytes`, since other writers scale by 32767 and so change every sample.

    Raises:
        ConfigurationError: A number is out of range, or options exclude each other.

    Example:
        >>> attack = WaveformPGD(epsilon=0.005, num_steps=100, seed=0)
        >>> result = attack(model, waveforms, questions, targets)  # doctest: +SKIP
    """

    snapshot_steps: Sequence[int] = field(default=(), init=False)
    space: Space = field(default=WAVEFORM, init=False)

    def __call__(  # type: ignore[override]  # audio comes in many lengths, so lists replace batches
        self,
        model: ChatTransformersMultimodal,
        waveforms: Sequence[torch.Tensor],
        questions: Sequence[str],
        targets: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> WaveformResult:
        """Attack waveforms.

        Args:
            model: The model.
            waveforms: Float32 (samples,) each in [-1, 1], one channel at the model's `sampling_rate`.
            questions: What is asked about each waveform.
            targets: The answer that each waveform should bring about, or with `targeted=False` avoid.
            progress: Called after every step, starting again for every length.

        Returns:
            The adversarial waveforms with their losses, in the order given.

        Raises:
            ConfigurationError: Shapes or numbers are wrong, no 16-bit waveform lies in the ball, or the model takes
                no audio or uses other features than Whisper's.
        """
        if not len(waveforms) or len({len(waveforms), len(questions), len(targets)}) != 1:
            raise ConfigurationError("expected at least one waveform, with one question and target each")
        if any(wave.ndim != 1 or not wave.numel() for wave in waveforms):
            raise ConfigurationError("expected waveforms of shape (samples,): one channel, not empty")
        same_length = defaultdict(list)
        for row, wave in enumerate(waveforms):
            same_length[len(wave)].append(row)
        device = model.engine.device
        found: list[torch.Tensor] = [torch.empty(0)] * len(waveforms)
        loss = torch.empty(len(waveforms), device=device)
        history = torch.empty(self.num_steps, len(waveforms), device=device)
        for rows in same_length.values():
            waves = WAVEFORM.check(torch.stack([waveforms[row] for row in rows])[:, None]).to(device)
            objective = WaveformLoss(
                model, waves[:, 0], [questions[row] for row in rows], [targets[row] for row in rows]
            )
            result = self.run(objective, waves, progress=progress)
            loss[rows], history[:, rows] = result.loss, result.history
            for row, wave in zip(rows, result.images[:, 0], strict=True):
                found[row] = wave
        return WaveformResult(waveforms=found, loss=loss, history=history)


def wav_bytes(waveform: torch.Tensor, sampling_rate: int) -> bytes:
    """Encode a waveform as a 16-bit WAV file that decodes to the very same samples.

    Args:
        waveform: Float32 (samples,), rounded to multiples of 1/32768.
        sampling_rate: Samples per second: the model's.

    Example:
        >>> len(wav_bytes(torch.zeros(16_000), 16_000))
        32044
    """
    import soundfile

    levels = (waveform.detach().double() * 2**15).round().clamp(-(2**15), 2**15 - 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, levels.to(torch.int16).cpu().numpy(), sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
