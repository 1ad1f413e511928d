"""The attacks behind the options of `smoothguard attack`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from smoothguard_guardrail.errors import ConfigurationError

if TYPE_CHECKING:
    from smoothguard_guardrail.attacks import Attack, Transform
    from smoothguard_guardrail.cli.attack.media import MediumKind
    from smoothguard_guardrail.cli.attack.record import Settings

Method = Literal["pgd", "universal", "square"]
DEFAULT_EPSILON = {"image": "16/255", "audio": "0.005"}
"""By kind of medium. Of a recording's samples in [-1, 1] 0.005 is 46 dB below full scale."""
_NUM_DRAWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the command line says of the attack; None stands for the attack's own default."""

    method: Method
    kind: MediumKind
    through_guard: bool
    epsilon: float | None
    norm: Literal["linf", "l2"]
    targeted: bool
    num_steps: int | None
    step_size: float | None
    momentum: float | None
    step_decay: bool
    random_start: bool
    num_restarts: int
    num_draws: int | None
    max_batch_size: int

    def check(self) -> None:
        """Refuse options that have no effect, and numbers that make no sense, before a model is loaded.

        Raises:
            ConfigurationError: Naming the option.
        """
        if self.num_draws is not None and not self.through_guard:
            raise ConfigurationError("--draws has no effect without --eot")
        if self.method == "square":
            self._check_square()
        if self.method == "universal" and self.step_decay:
            raise ConfigurationError("--step-decay has no effect with --universal")
        if self.epsilon is not None and self.epsilon > 1 and self.norm == "linf":
            raise ConfigurationError(
                f"--epsilon {self.epsilon:g} is more than there is: values lie in [0, 1], so 16 levels are 16/255"
            )
        self.build(0, None)

    def _check_square(self) -> None:
        given = {
            "--eot": self.through_guard,
            "--step-size": self.step_size is not None,
            "--momentum": self.momentum is not None,
            "--step-decay": self.step_decay,
            "--random-start": self.random_start,
            "--restarts": self.num_restarts > 1,
        }
        if useless := [name for name, is_given in given.items() if is_given]:
            raise ConfigurationError(f"{' and '.join(useless)}: no effect with --square, which takes no gradient")
        if self.kind == "audio":
            raise ConfigurationError("--square changes squares of a picture: leave it out for --audio")
        if self.epsilon is None:
            raise ConfigurationError("--square works at the bound: give --epsilon a number")

    def build(self, seed: int, transform: Transform | None) -> Attack:
        """Return the attack, behind what a guard does to the medium.

        Args:
            seed: Of all that the attack draws.
            transform: What the guard does; None: the bare model.

        Raises:
            ConfigurationError: A number is out of range.
        """
        from smoothguard_guardrail import attacks

        chosen = {"num_steps": self.num_steps, "step_size": self.step_size, "momentum": self.momentum}
        options: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        options |= {"norm": self.norm, "targeted": self.targeted, "max_batch_size": self.max_batch_size, "seed": seed}
        if self.method == "square" and self.epsilon is not None:
            return attacks.SquareAttack(self.epsilon, **options)
        options |= {
            "random_start": self.random_start or self.num_restarts > 1,
            "num_restarts": self.num_restarts,
            "transform": transform,
            "num_draws": self.num_draws or _NUM_DRAWS,
            "space": attacks.PIXELS if self.kind == "image" else attacks.WAVEFORM,
        }
        if self.method == "universal":
            return attacks.UniversalPGD(self.epsilon, **options)
        return attacks.PGD(self.epsilon, step_decay=self.step_decay, **options)

    def settings(self, attack: Attack, seed: int) -> Settings:
        """Return every setting of the attack as it was used."""
        from smoothguard_guardrail.cli.attack.record import Settings

        return Settings(
            method=self.method,
            through_guard=self.through_guard,
            epsilon=attack.epsilon,
            norm=attack.norm,
            targeted=attack.targeted,
            step_size=getattr(attack, "step_size", None),
            num_steps=attack.num_steps,
            momentum=getattr(attack, "momentum", None),
            step_decay=getattr(attack, "step_decay", False),
            random_start=getattr(attack, "random_start", False),
            num_restarts=attack.num_restarts,
            minibatch_size=getattr(attack, "minibatch_size", None),
            num_draws=attack.num_draws,
            max_batch_size=attack.max_batch_size,
            seed=seed,
        )


def method_of(*, universal: bool, square: bool) -> Method:
    """Return the attack that the options ask for.

    Raises:
        ConfigurationError: They ask for two.
    """
    if universal and square:
        raise ConfigurationError("--universal and --square do not go together: choose one")
    return "universal" if universal else "square" if square else "pgd"
