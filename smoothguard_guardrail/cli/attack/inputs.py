"""What `smoothguard attack` reads: numbers, prompts, and where its files go."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.cli.attack.media import MediumKind

_SUFFIX = {"image": ".png", "audio": ".wav"}
_UNBOUNDED = ("none", "inf", "unconstrained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is asked about the medium, and the answer that the attack is about."""

    question: str
    target: str | None
    """None: what the model itself answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPaths:
    """The files of one attack, side by side."""

    medium: Path
    record: Path
    plot: Path

    @classmethod
    def beside(cls, out: Path, kind: MediumKind) -> OutputPaths:
        """Name the files after `--out`.

        Raises:
            InputError: If `--out` has the wrong suffix, or its folder does not exist.
        """
        suffix = _SUFFIX[kind]
        if out.suffix.lower() != suffix:
            raise InputError(f"--out has to end in {suffix}, not be {out.name}: what loses bits loses the attack")
        if not out.parent.is_dir():
            raise InputError(f"the folder of --out does not exist: {out.parent}")
        return cls(medium=out, record=out.with_suffix(".json"), plot=out.with_suffix(".loss.png"))

    def checkpoint(self, seed: int) -> Path:
        """Return where an attack with a seed keeps its state: the name tells the seed to the run that goes on."""
        return self.medium.with_name(f"{self.medium.stem}.seed-{seed}.checkpoint.pt")

    def unfinished(self) -> dict[int, Path]:
        """Return the checkpoints that are there, by seed."""
        pattern = re.compile(re.escape(self.medium.stem) + r"\.seed-(\d+)\.checkpoint\.pt")
        found = ((pattern.fullmatch(path.name), path) for path in self.medium.parent.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def check_free(self, inputs: Sequence[Path], *, force: bool) -> None:
        """Refuse to write over files, over those that are read even with `force`.

        Raises:
            InputError: If a file is in the way, and what to do.
        """
        written = (self.medium, self.record, self.plot)
        if mixed := {path.resolve() for path in inputs} & {path.resolve() for path in written}:
            raise InputError(f"--out would overwrite what is read: {' and '.join(sorted(map(str, mixed)))}")
        taken = [str(path) for path in written if path.exists()]
        if taken and not force:
            raise InputError(f"there already: {', '.join(taken)}; choose another --out, or say --force")

    def seed_to_resume(self, seed: int | None) -> int | None:
        """Return the seed of the interrupted attack; None: there is no such attack.

        Raises:
            InputError: If there are several, and no seed says which.
        """
        found = self.unfinished()
        if seed is not None:
            return seed if seed in found else None
        if len(found) > 1:
            raise InputError(f"several unfinished attacks, say which by --seed: {', '.join(map(str, sorted(found)))}")
        return next(iter(found), None)

    def clear_unfinished(self, *, force: bool) -> None:
        """Make sure that nothing unfinished is left to lose.

        Raises:
            InputError: If there is, and `force` does not say to delete it.
        """
        for path in self.unfinished().values():
            if not force:
                raise InputError(f"{path} is an unfinished attack: say --resume to go on, or --force to start anew")
            path.unlink()


def parse_epsilon(text: str) -> float | None:
    """Read a radius: a fraction, a float, or `none`.

    Raises:
        ConfigurationError: If it is neither.

    Example:
        >>> parse_epsilon("51/255"), parse_epsilon("0.05"), parse_epsilon("none")
        (0.2, 0.05, None)
    """
    if text.strip().lower() in _UNBOUNDED:
        return None
    value = parse_number("--epsilon", text)
    if value <= 0:
        raise ConfigurationError(f"--epsilon has to be positive, or none, not {text}")
    return value


def parse_number(name: str, text: str) -> float:
    """Read a fraction as `16/255`, or a float.

    Raises:
        ConfigurationError: If it is neither.
    """
    above, slash, below = text.partition("/")
    try:
        value = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise ConfigurationError(f"{name} takes a fraction as 16/255 or a number as 0.06, not {text!r}") from None
    if value != value or abs(value) == float("inf"):
        raise ConfigurationError(f"{name} has to be finite, not {text}")
    return value


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read JSON lines of `{"question": ..., "target": ...}`; empty lines are left out.

    Raises:
        InputError: If the file cannot be read or holds no prompt, or a line is none; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    prompts = tuple(_prompt(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip())
    if not prompts:
        raise InputError(f'{path} holds no prompt: give lines of {{"question": "...", "target": "..."}}')
    return prompts


def _prompt(line: str, where: str) -> Prompt:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no JSON: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f'{where}: has to be an object {{"question": "...", "target": "..."}}')
    for name in ("question", "target"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise InputError(f'{where}: "{name}" has to be a text that is not empty')
    if unknown := sorted(row.keys() - {"question", "target"}):
        raise InputError(f"{where}: unknown {', '.join(unknown)}")
    return Prompt(question=row["question"], target=row["target"])
