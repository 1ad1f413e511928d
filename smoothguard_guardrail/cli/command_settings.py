"""What the `--settings` files of `smoothguard calibrate`, `eval run` and `serve` may contain, besides `guard`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from smoothguard_guardrail.cli.presets import Preset
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.evaluation.attackers import AttackSettings


class AttackOptions(Record):
    """The table `attack`: how images are attacked; see `AttackSettings`."""

    num_steps: int = Field(default=100, ge=1)
    """Gradient steps."""
    num_draws: int = Field(default=16, ge=1)
    """Draws of the guard's perturbation per step, where the attack goes through it."""
    target: str | None = None
    """The answer to bring about; None: the item's own target, or away from the model's answer."""
    step_size: float | None = Field(default=None, gt=0)
    momentum: float = Field(default=0.5, ge=0, lt=1)
    step_decay: bool = False
    random_start: bool = False

    def settings(self, epsilon: float, *, through: SmoothGuardConfig | None = None, seed: int = 0) -> AttackSettings:
        """Return the attack of this radius."""
        from smoothguard_guardrail.evaluation.attackers import AttackSettings

        return AttackSettings(epsilon=epsilon, through=through, seed=seed, **self.model_dump())


class CalibrationSettings(Record):
    """The settings of `smoothguard calibrate`."""

    match: Literal["equal", "contains"] = "equal"
    """Whether a right answer is `answer`, or contains it."""
    sweep: dict[str, Any] = Field(default_factory=dict)
    """Values to try, by setting: see `Sweep`; --sigma and --num-samples win."""
    attack: AttackOptions = AttackOptions()


class EvalSettings(Record):
    """The settings of `smoothguard eval run`."""

    images: Path | None = None
    """Folder of the benchmark's images or audio. Of a dataset: where they are written, by default OUT/images."""
    rule: Path | None = None
    """llava-bench's rule.json; by default next to its files."""
    variant: str | None = None
    """Of mm-safetybench: SD, TYPO, SD_TYPO (default), text-only, universal."""
    universal_image: Path | None = None
    """The one image of the variant `universal`."""
    suffix: str | None = None
    """Appended to pope's questions: `single-word`, the published one, or a text."""
    attack: AttackOptions = AttackOptions()


class ServedModel(Record):
    """A table `models.NAME`: a model that clients call by this name."""

    model: str
    """As in `--model`."""
    preset: Preset | None = None
    config: Path | None = None
    """A file of settings instead of a preset."""
    temperature: float | None = Field(default=None, ge=0)
    """Of requests that name none; None: the model's own."""
    guard: dict[str, Any] = Field(default_factory=dict)
    """Settings of its guard that differ from the file or the preset."""


class ServeSettings(Record):
    """The settings of `smoothguard serve`."""

    models: dict[str, ServedModel] = Field(default_factory=dict)
