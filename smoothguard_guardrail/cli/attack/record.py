"""What `smoothguard attack` writes beside its picture: everything that repeats the attack, and what came of it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from smoothguard_guardrail.cli.attack.media import InputMedium
    from smoothguard_guardrail.models import ChatTransformersMultimodal

_SOFTWARE = ("smoothguard-guardrail", "torch", "torchvision", "transformers", "numpy", "pillow", "soundfile")
_SLACK = 1e-6  # float32 keeps a 255th to about 1e-8; the projection works in float32
_LEVELS = 255


class FileRecord(Record):
    """One file."""

    path: str
    """As given on the command line."""
    sha256: str
    size: tuple[int, int] | None = None
    """Width and height in pixels as decoded; None for a recording."""
    seconds: float | None = None
    """Duration; None for a picture."""
    sampling_rate: int | None = None
    """Samples a second; None for a picture."""
    notes: tuple[str, ...] = ()
    """What decoding did to it, as `alpha composited on white`."""


class ModelRecord(Record):
    """The model that was attacked."""

    spec: str
    """As given to `--model`."""
    revision: str | None
    """Commit of a model from the hub; None for a local folder."""
    weights_sha256: dict[str, str]
    """By name of file, for a local folder."""
    device: str
    dtype: str


class Settings(Record):
    """Every setting of the attack, as it was used."""

    method: Literal["pgd", "universal", "square"]
    through_guard: bool
    """Whether the attack looked through the guard's perturbation (`--eot`)."""
    epsilon: float | None
    """Radius, of values in [0, 1] for pictures, of the waveform for recordings; None: no bound."""
    norm: Literal["linf", "l2"]
    targeted: bool
    step_size: float | None
    """None where the method has no steps along a gradient."""
    num_steps: int
    momentum: float | None
    step_decay: bool
    """Whether steps shrank to a tenth at the end."""
    random_start: bool
    num_restarts: int
    minibatch_size: int | None
    """Prompts per step of a universal attack."""
    num_draws: int
    """Draws of the guard's perturbation per step; 1 without `--eot`."""
    max_batch_size: int | None
    """Most rows in one forward pass; sums of another size may round differently."""
    seed: int


class Losses(Record):
    """Negative log-likelihood of the target, nats per token, mean over the prompts, of input and saved file.

    An attack with `--untargeted` raises it, every other one lowers it.
    """

    before: float
    after: float
    through_guard_before: float | None = None
    """Mean over draws of the guard's perturbation, the same draws for both; None without `--eot`."""
    through_guard_after: float | None = None
    history: tuple[float, ...]
    """What the attack saw before each step, through the guard with `--eot`: one value, with `--universal` the mean over
    that step's prompts."""


class GuardedAnswer(Record):
    """What the guard answered about the saved file."""

    answer: str
    reached: bool
    """As of the model's answer."""
    verdict: str
    agreement: float
    num_calls: int
    seed: int | None
    """Of the guard's noise."""


class PromptRecord(Record):
    """One question, and the model's answers."""

    question: str
    target: str
    """The answer that the attack works towards; with `--untargeted` away from."""
    answer_before: str
    """To the input."""
    answer_after: str
    """To the saved file."""
    reached: bool
    """Whether the answer after holds the target's words; with `--untargeted`, whether the answer changed."""
    guarded: GuardedAnswer | None = None


class Difference(Record):
    """How far the saved file is from the input file, both decoded."""

    linf: float
    """Largest change of a value."""
    l2: float
    """Length of the difference over all values."""
    levels: int | None
    """Largest change in 255ths; None for recordings."""
    bound_kept: bool | None
    """Whether that is within epsilon in the attack's norm; None without a bound."""


class AttackRecord(Record):
    """One run of `smoothguard attack`.

    On a CPU the same command, versions, model and input give the same file, bit for bit. Kernels of other devices may
    add in another order.
    """

    version: Literal[1] = 1
    command: tuple[str, ...]
    """The command that repeats the attack, its seed included."""
    started: AwareDatetime
    seconds: float
    """Duration of the attack alone."""
    resumed: bool
    """Whether a part of it was done by an earlier run."""
    software: dict[str, str]
    """Versions by package, and Python's."""
    model: ModelRecord
    settings: Settings
    guard: SmoothGuardConfig | None
    """The guard in front, when one was named."""
    input: FileRecord
    output: FileRecord
    difference: Difference
    num_queries: int | None
    """How often the model was asked, where the attack counts it."""
    loss: Losses
    prompts: tuple[PromptRecord, ...]


def software() -> dict[str, str]:
    """Return the versions that decide what an attack finds."""
    versions = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def sha256_of(path: Path) -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_record(path: Path, medium: InputMedium) -> FileRecord:
    """Describe a medium's file."""
    shape, facts = medium.tensor.shape, {"path": str(path), "sha256": sha256_of(path), "notes": medium.notes}
    if medium.sampling_rate is None:
        return FileRecord(**facts, size=(shape[2], shape[1]))
    return FileRecord(**facts, seconds=shape[1] / medium.sampling_rate, sampling_rate=medium.sampling_rate)


def model_record(spec: str, model: ChatTransformersMultimodal) -> ModelRecord:
    """Describe a model, with the hashes of its weights where it is a local folder."""
    folder = Path(model.model_name)
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")]) if folder.is_dir() else []
    config: Any = model.hf_model.config
    return ModelRecord(
        spec=spec,
        revision=None if weights else getattr(config, "_commit_hash", None),
        weights_sha256={path.name: sha256_of(path) for path in weights},
        device=str(model.engine.device),
        dtype=str(model.hf_model.dtype).removeprefix("torch."),
    )


def difference(before: InputMedium, after: InputMedium, settings: Settings) -> Difference:
    """Measure how far the saved file is from the input, both decoded."""
    change = after.tensor.double() - before.tensor.double()
    linf, l2 = float(change.abs().max()), float(change.norm())
    distance, epsilon = linf if settings.norm == "linf" else l2, settings.epsilon
    return Difference(
        linf=linf,
        l2=l2,
        levels=round(linf * _LEVELS) if before.kind == "image" else None,
        bound_kept=None if epsilon is None else distance <= epsilon + _SLACK,
    )
