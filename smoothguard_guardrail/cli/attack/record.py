"""What `smoothguard attack` writes next to its result: everything needed to repeat the attack, and its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail.cli.attack.settings import Settings
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from smoothguard_guardrail.evaluation.input_media import InputMedium
    from smoothguard_guardrail.models import ChatTransformersMultimodal

SOFTWARE = ("smoothguard-guardrail", "torch", "torchvision", "transformers", "numpy", "pillow", "soundfile")
"""Packages whose versions decide what an attack finds."""
_SLACK = 1e-6  # float32 holds a 255th to about 1e-8; the projection works in float32
_LEVELS = 255


class FileRecord(Record):
    """One file."""

    path: str
    """As given on the command line."""
    sha256: str
    size: tuple[int, int] | None = None
    """Width and height in pixels as decoded; None for audio."""
    seconds: float | None = None
    """Duration; None for an image."""
    sampling_rate: int | None = None
    """Samples per second; None for an image."""
    notes: tuple[str, ...] = ()
    """What decoding did to it, such as `alpha composited on white`."""


class ModelRecord(Record):
    """The model that was attacked."""

    spec: str
    """As given to `--model`."""
    revision: str | None
    """Commit of a model from the hub; None for a local folder."""
    weights_sha256: dict[str, str]
    """By file name, for a local folder."""
    device: str
    dtype: str


class Losses(Record):
    """Negative log-likelihood of the target, nats per token, mean over the prompts, of input and saved file.

    An untargeted attack raises it, every other one lowers it.
    """

    before: float
    after: float
    through_guard_before: float | None = None
    """Mean over draws of the guard's perturbation, the same draws for both; None unless `through_guard`."""
    through_guard_after: float | None = None
    history: tuple[float, ...]
    """The attack's loss before each step, through the guard with `through_guard`; of a universal attack the mean over
    that step's prompts."""


class GuardedAnswer(Record):
    """What the guard answered about the saved file."""

    answer: str
    reached: bool
    """As for the model's answer."""
    verdict: str
    agreement: float
    num_calls: int
    seed: int | None
    """Of the guard's noise."""


class PromptRecord(Record):
    """One question, and the model's answers."""

    question: str
    target: str
    """The answer that the attack tries to bring about, or untargeted to avoid."""
    answer_before: str
    """To the input."""
    answer_after: str
    """To the saved file."""
    reached: bool
    """Whether the answer after contains the target's words; untargeted, whether it does not."""
    guarded: GuardedAnswer | None = None


class Difference(Record):
    """How far the saved file is from the input file, both decoded."""

    linf: float
    """Largest change of a value."""
    l2: float
    """Euclidean norm of the change."""
    levels: int | None
    """Largest change in 255ths; None for audio."""
    bound_kept: bool | None
    """Whether the change is within epsilon in the attack's norm; None without a bound."""

    @classmethod
    def between(cls, before: InputMedium, after: InputMedium, settings: Settings) -> Difference:
        """Measure the difference."""
        change = after.tensor.double() - before.tensor.double()
        linf, l2 = float(change.abs().max()), float(change.norm())
        distance, epsilon = linf if settings.norm == "linf" else l2, settings.epsilon
        return cls(
            linf=linf,
            l2=l2,
            levels=round(linf * _LEVELS) if before.kind == "image" else None,
            bound_kept=None if epsilon is None else distance <= epsilon + _SLACK,
        )


class AttackRecord(Record):
    """One run of `smoothguard attack`.

    On a CPU the same command, versions, model and inputs give the same file, bit for bit. Other devices may add
    numbers in another order.
    """

    version: Literal[1] = 1
    command: tuple[str, ...]
    """The command that repeats the attack, including its seed."""
    started: AwareDatetime
    seconds: float
    """Duration of the attack itself."""
    resumed: bool
    """Whether an earlier run did part of it."""
    software: dict[str, str]
    """Versions of Python and of the packages involved."""
    model: ModelRecord
    settings: Settings
    """Every setting as used, from command line, `--settings` file and defaults."""
    guard: SmoothGuardConfig | None
    """The guard, if one was named."""
    input: FileRecord
    output: FileRecord
    difference: Difference
    num_queries: int | None
    """How often the model was asked, for attacks that count queries."""
    loss: Losses
    prompts: tuple[PromptRecord, ...]


def file_record(path: Path, medium: InputMedium) -> FileRecord:
    """Describe a medium's file."""
    shape = medium.tensor.shape
    common: dict[str, Any] = {"path": str(path), "sha256": file_sha256(path), "notes": medium.notes}
    if medium.sampling_rate is None:
        return FileRecord(**common, size=(shape[2], shape[1]))
    return FileRecord(**common, seconds=shape[1] / medium.sampling_rate, sampling_rate=medium.sampling_rate)


def model_record(spec: str, model: ChatTransformersMultimodal) -> ModelRecord:
    """Describe a model, with the hashes of its weights if it is a local folder."""
    folder = Path(model.model_name)
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]) if folder.is_dir() else []
    config: Any = model.hf_model.config
    return ModelRecord(
        spec=spec,
        revision=None if weights else getattr(config, "_commit_hash", None),
        weights_sha256={path.name: file_sha256(path) for path in weights},
        device=str(model.engine.device),
        dtype=str(model.hf_model.dtype).removeprefix("torch."),
    )
