"""White-box attacks on recordings: the loss of an answer, with a gradient in the samples, and PGD on it."""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.attacks.objective import AnswerLoss
from smoothguard_guardrail.attacks.pgd import PGD
from smoothguard_guardrail.attacks.space import WAVEFORM
from smoothguard_guardrail.attacks.spectrogram import LogMel
from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.attacks.ball import Norm
    from smoothguard_guardrail.attacks.problem import Transform
    from smoothguard_guardrail.attacks.result import ProgressCallback
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

FEATURE_TOLERANCE = 1e-4
"""How far the spectrogram may be from the model's own; its unit is four decades of power, so this is 0.004 dB."""


class WaveformLoss(AnswerLoss):
    """Negative log-likelihood of one answer per recording, through a spectrogram that keeps a gradient.

    All else goes the user's way: chat template, processor, forward pass. At the start the spectrogram is compared
    with that of the model's own feature extractor, and must not differ by more than `FEATURE_TOLERANCE`.

    Args:
        model: The model under attack.
        recordings: Float32 (batch, samples) in [-1, 1], at the model's `sampling_rate`.
        questions: The user's words, one per recording.
        targets: The answer that is wanted, one per recording.

    Raises:
        ConfigurationError: The model takes no audio, or hears it through other features than Whisper's.
    """

    def __init__(
        self,
        model: ChatTransformersMultimodal,
        recordings: torch.Tensor,
        questions: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        rate = model.sampling_rate
        if rate is None:
            raise ConfigurationError("this model takes no audio")
        messages = [_ask(wave, rate, question) for wave, question in zip(recordings, questions, strict=True)]
        super().__init__(model, [model.engine.read([message]) for message in messages], targets)
        processor = model.engine.processor
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self._log_mel = LogMel(extractor, model.engine.device)
        self._num_frames, self._dtype = self._compare(recordings[:1])

    def __call__(self, waveforms: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Compute the loss of some recordings.

        Args:
            waveforms: Float32 (num_rows, 1, samples) in [-1, 1].
            rows: Int64 (num_rows,): which question and target goes with which recording.

        Returns:
            Float32 (num_rows,): negative log-likelihood of the target, nats per token.
        """
        mono = waveforms.mean(dim=1)
        indices = rows.tolist()
        # The numbers of frames and tokens depend on the length alone.
        heard = mono.detach().cpu().numpy()
        conversations = [
            replace(self._conversations[row], recordings=[wave]) for row, wave in zip(indices, heard, strict=True)
        ]
        features = self._log_mel(mono, self._num_frames).to(self._dtype)
        return self._losses(conversations, indices, input_features=features)

    def _compare(self, recordings: torch.Tensor) -> tuple[int, torch.dtype]:
        """Return the number of frames and the dtype of the model's own spectrogram, if ours is the same."""
        own = self._engine.encode(self._conversations[:1]).get("input_features")
        if own is not None and own.ndim == 3:
            ours = self._log_mel(recordings.detach().to(own.device, torch.float32), own.shape[2]).to(own.dtype)
            tolerance = FEATURE_TOLERANCE + 2 * torch.finfo(own.dtype).eps
            if ours.shape == own.shape and torch.allclose(ours.float(), own.float(), rtol=0, atol=tolerance):
                return int(own.shape[2]), own.dtype
        kind = type(self._engine.processor).__name__
        raise ConfigurationError(f"{kind} does not hear recordings through Whisper's log-mel spectrogram")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveformResult:
    """Adversarial recordings.

    Attributes:
        recordings: Float32 (samples,) each, whole 32768ths, within epsilon of the originals.
        loss: Float32 (batch,): loss of these recordings under the evaluation transform, nats per target token.
        history: Float32 (num_steps, batch): loss before each step.
    """

    recordings: list[torch.Tensor]
    loss: torch.Tensor
    history: torch.Tensor


class WaveformPGD:
    """PGD on recordings, for models that hear through Whisper's log-mel spectrogram, such as Qwen2-Audio.

    Recordings of one length are attacked together, those of different lengths one after another: nothing is padded,
    so a transform sees what the defence would see. What comes back fits 16-bit WAV files: write them with
    `wav_bytes`, since other writers scale by 32767 and so move every sample.

    Args:
        epsilon: Radius of the ball: the greatest change of a sample in [-1, 1] (`linf`), such as 0.005, or the
            Euclidean norm of the change (`l2`).
        step_size: As of `PGD`.
        num_steps: Gradient steps.
        momentum: As of `PGD`.
        norm: `linf` or `l2`.
        targeted: Whether the targets are wanted. False: their loss is maximised.
        random_start: Start at a random point of the ball.
        seed: Makes random start and draws repeatable; None: unpredictable.
        transform: What the defence does to float32 (num_rows, 1, samples); None: the bare model.
        num_draws: Draws of the transform per step.
        max_batch_size: Most rows (recordings times draws) in one forward pass; None: all.

    Raises:
        ConfigurationError: A number is out of range.

    Example:
        >>> attack = WaveformPGD(epsilon=0.005, num_steps=100, seed=0)
        >>> result = attack(model, recordings, questions, targets)  # doctest: +SKIP
    """

    def __init__(
        self,
        epsilon: float,
        step_size: float | None = None,
        num_steps: int = 100,
        momentum: float = 0.5,
        *,
        norm: Norm = "linf",
        targeted: bool = True,
        random_start: bool = False,
        seed: int | None = None,
        transform: Transform | None = None,
        num_draws: int = 1,
        max_batch_size: int | None = 32,
    ) -> None:
        self.pgd = PGD(
            epsilon,
            step_size,
            num_steps,
            momentum,
            norm=norm,
            targeted=targeted,
            random_start=random_start,
            seed=seed,
            transform=transform,
            num_draws=num_draws,
            max_batch_size=max_batch_size,
            space=WAVEFORM,
        )

    def __call__(
        self,
        model: ChatTransformersMultimodal,
        recordings: Sequence[torch.Tensor],
        questions: Sequence[str],
        targets: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> WaveformResult:
        """Attack recordings.

        Args:
            model: The model.
            recordings: Float32 (samples,) each in [-1, 1], one channel at the model's `sampling_rate`.
            questions: What is asked about each recording.
            targets: The answer that each recording shall bring about, or with `targeted=False` not bring about.
            progress: Called after every step, of each length anew.

        Returns:
            The adversarial recordings with their losses, in the order given.

        Raises:
            ConfigurationError: Shapes or numbers do not fit, no 16-bit recording lies in the ball, or the model
                takes no audio or hears it through other features than Whisper's.
        """
        if not len(recordings) or len({len(recordings), len(questions), len(targets)}) != 1:
            raise ConfigurationError("give at least one recording, with one question and target each")
        if any(wave.ndim != 1 or not wave.numel() for wave in recordings):
            raise ConfigurationError("recordings have to be (samples,) each: one channel, not empty")
        batch = len(recordings)
        found: list[torch.Tensor] = [torch.empty(0)] * batch
        device = model.engine.device
        loss = torch.empty(batch, device=device)
        history = torch.empty(self.pgd.num_steps, batch, device=device)
        for rows in _by_length(recordings):
            waves = WAVEFORM.check(torch.stack([recordings[row] for row in rows])[:, None]).to(device)
            objective = WaveformLoss(
                model, waves[:, 0], [questions[row] for row in rows], [targets[row] for row in rows]
            )
            result = self.pgd.run(objective, waves, progress=progress)
            loss[rows] = result.loss
            history[:, rows] = result.history
            for row, wave in zip(rows, result.images[:, 0], strict=True):
                found[row] = wave
        return WaveformResult(recordings=found, loss=loss, history=history)


def wav_bytes(recording: torch.Tensor, sampling_rate: int) -> bytes:
    """Write a recording as a 16-bit WAV file that decodes to the very same samples.

    Args:
        recording: Float32 (samples,), whole 32768ths as attacks return them; else the nearest are written.
        sampling_rate: Samples a second: the model's.

    Example:
        >>> len(wav_bytes(torch.zeros(16_000), 16_000))
        32044
    """
    import soundfile

    levels = (recording.detach().double() * 2**15).round().clamp(-(2**15), 2**15 - 1)
    buffer = io.BytesIO()
    soundfile.write(buffer, levels.to(torch.int16).cpu().numpy(), sampling_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _by_length(recordings: Sequence[torch.Tensor]) -> list[list[int]]:
    groups = defaultdict(list)
    for row, recording in enumerate(recordings):
        groups[len(recording)].append(row)
    return list(groups.values())


def _ask(waveform: torch.Tensor, sampling_rate: int, question: str) -> HumanMessage:
    block = {"type": "audio", "audio": waveform, "sampling_rate": sampling_rate}
    return HumanMessage(content=[block, {"type": "text", "text": question}])
