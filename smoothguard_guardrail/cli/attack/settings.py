"""The settings of `smoothguard attack`: from options and a TOML file to an attack, and into its record."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from smoothguard_guardrail.cli._numbers import parse_number
from smoothguard_guardrail.cli._settings import load_settings
from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from pathlib import Path

    from smoothguard_guardrail.attacks import Attack, Transform
    from smoothguard_guardrail.evaluation.input_media import MediumKind

DEFAULT_EPSILON = {"image": "16/255", "audio": "0.005"}
"""By kind of medium. For audio samples in [-1, 1], 0.005 is 46 dB below full scale."""
_UNBOUNDED = ("none", "inf", "unconstrained")
_EOT_DRAWS = 16


def _number(value: Any) -> Any:
    return parse_number("a length", value) if isinstance(value, str) else value


def _radius(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in _UNBOUNDED else _number(value)


class Settings(Record):
    """How `smoothguard attack` attacks. A `--settings` file has these keys; the record has the values as used."""

    method: Literal["pgd", "universal", "square"] = "pgd"
    """`square` uses losses only, no gradient; `universal`, set by `--universal`, makes one image for many prompts."""
    through_guard: bool = False
    """Whether the attack differentiates through the guard's perturbation (`--eot`)."""
    epsilon: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_radius)]
    """Radius, such as 0.06 or "16/255": of values in [0, 1] for images, in [-1, 1] for audio; None (in a file "none"):
    no bound."""
    norm: Literal["linf", "l2"] = "linf"
    targeted: bool = True
    """False: away from an answer, to any other."""
    num_steps: int | None = Field(default=None, ge=1)
    """Gradient steps, by default 100, for `universal` 5000; for `square` queries, by default 1000."""
    step_size: Annotated[float | None, BeforeValidator(_number)] = None
    """Length of a step, by default epsilon / 4, for `universal` 1/255; None for methods without gradient."""
    momentum: float | None = None
    """Share of the gradient that is kept, by default 0.5, for `universal` 0."""
    step_decay: bool = False
    """Whether steps shrink to a tenth, so that an attack through a guard settles."""
    random_start: bool = False
    num_restarts: int = Field(default=1, ge=1)
    """Random starts, of which the best wins."""
    minibatch_size: int | None = Field(default=None, ge=1)
    """Prompts per step of a `universal` attack, by default 8."""
    num_draws: int | None = Field(default=None, ge=1)
    """Draws of the guard's perturbation per step, with `through_guard` 16 by default, otherwise 1."""
    max_batch_size: int | None = Field(default=32, ge=1)
    """Most rows in one forward pass; other sizes may round differently."""
    seed: int | None = Field(default=None, ge=0)
    """Repeats an attack; drawn if not given."""

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if self.num_draws not in (None, 1) and not self.through_guard:
            raise ValueError("num_draws has no effect without through_guard (--eot)")
        if self.epsilon is not None and self.epsilon > 1 and self.norm == "linf":
            raise ValueError(f"epsilon: values lie in [0, 1], so 16 levels are 16/255, not {self.epsilon:g}")
        return self

    def build(self, kind: MediumKind, transform: Transform | None) -> Attack:
        """Return the attack.

        Args:
            kind: The kind of medium to attack.
            transform: What the guard does to the medium; None: attack the bare model.

        Raises:
            ConfigurationError: A number is out of range, or a setting has no effect with this method.
        """
        from smoothguard_guardrail import attacks

        methods = {"pgd": attacks.PGD, "universal": attacks.UniversalPGD, "square": attacks.SquareAttack}
        attack: Any = methods[self.method]
        known = {each.name for each in dataclasses.fields(attack) if each.init}
        given = self.model_dump(exclude={"method", "through_guard"}, exclude_defaults=True) | {"epsilon": self.epsilon}
        ignored = sorted(given.keys() - known) + ["through_guard (--eot)"] * (
            self.through_guard and "transform" not in known
        )
        if ignored:
            raise ConfigurationError(f"no effect with method {self.method!r}: {', '.join(ignored)}; leave it out")
        if "space" in known:
            given["space"] = attacks.PIXELS if kind == "image" else attacks.WAVEFORM
            given["transform"] = transform
            given["num_draws"] = self.num_draws or _EOT_DRAWS
            given["random_start"] = self.random_start or self.num_restarts > 1
        elif kind == "audio":
            raise ConfigurationError(f"method {self.method!r} attacks images only")
        built: Attack = attack(**given)
        return built

    def as_used(self, attack: Attack) -> Settings:
        """Return the settings with the attack's own values instead of defaults."""
        names = ("num_steps", "momentum", "random_start", "minibatch_size")
        used = {name: getattr(attack, name, None) for name in names}
        used |= {"step_size": getattr(attack, "step_length", None), "num_draws": attack.draws_per_step}
        return self.model_copy(update=used | {"random_start": getattr(attack, "random_start", False)})


def read_settings(path: Path | None, kind: MediumKind, **options: Any) -> tuple[Settings, dict[str, Any]]:
    """Return the settings of a TOML file and the command line, which wins, and the file's `[guard]` table.

    Args:
        path: The file; None: there is none.
        kind: The kind of medium to attack.
        options: Settings from the command line; None: not given.

    Raises:
        ConfigurationError: The file cannot be read, or a key is unknown or its value invalid; names it.
    """
    return load_settings(Settings, path, options, defaults={"epsilon": DEFAULT_EPSILON[kind]})
