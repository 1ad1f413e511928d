"""The prompts that `smoothguard attack` reads, and the files that it writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smoothguard_guardrail._internal.files import read_json_lines
from smoothguard_guardrail.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.evaluation.input_media import MediumKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is asked about the medium, and the target answer."""

    question: str
    target: str | None
    """None: what the model itself answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPaths:
    """The files of one attack, in one folder."""

    medium: Path
    record: Path
    plot: Path

    @classmethod
    def next_to(cls, out: Path, kind: MediumKind) -> OutputPaths:
        """Name the files after `--out`.

        Raises:
            InputError: `--out` has the wrong suffix, or its folder does not exist.
        """
        suffix = ".png" if kind == "image" else ".wav"
        if out.suffix.lower() != suffix:
            raise InputError(f"--out must end in {suffix}, not be {out.name}: lossy formats destroy an attack")
        if not out.parent.is_dir():
            raise InputError(f"the folder of --out does not exist: {out.parent}")
        return cls(medium=out, record=out.with_suffix(".json"), plot=out.with_suffix(".loss.png"))

    def checkpoint(self, seed: int) -> Path:
        """Return where an attack saves its state; the name holds the seed, which a resumed run needs."""
        return self.medium.with_name(f"{self.medium.stem}.seed-{seed}.checkpoint.pt")

    def check_free(self, inputs: Sequence[Path], *, force: bool) -> None:
        """Refuse to overwrite files, and even with `force` those that are read.

        Raises:
            InputError: A file is in the way; says what to do.
        """
        written = (self.medium, self.record, self.plot)
        if overwritten := {path.resolve() for path in inputs} & {path.resolve() for path in written}:
            raise InputError(f"--out would overwrite an input: {' and '.join(sorted(map(str, overwritten)))}")
        existing = [str(path) for path in written if path.exists()]
        if existing and not force:
            raise InputError(f"already exists: {', '.join(existing)}; choose another --out, or give --force")

    def seed_to_resume(self, seed: int | None) -> int | None:
        """Return the seed of the interrupted attack; None: there is no such attack.

        Raises:
            InputError: There are several, and no seed says which.
        """
        found = self._unfinished()
        if seed is not None:
            return seed if seed in found else None
        if len(found) > 1:
            raise InputError(f"several unfinished attacks; choose one by --seed: {', '.join(map(str, sorted(found)))}")
        return next(iter(found), None)

    def clear_unfinished(self, *, force: bool) -> None:
        """Delete the state of interrupted attacks with `force`.

        Raises:
            InputError: There is some, and `force` is not given.
        """
        for path in self._unfinished().values():
            if not force:
                raise InputError(f"{path} is an unfinished attack: give --resume to go on, or --force to start again")
            path.unlink()

    def _unfinished(self) -> dict[int, Path]:
        """Return the checkpoints by seed."""
        pattern = re.compile(re.escape(self.medium.stem) + r"\.seed-(\d+)\.checkpoint\.pt")
        found = ((pattern.fullmatch(path.name), path) for path in self.medium.parent.iterdir())
        return {int(match[1]): path for match, path in found if match}


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read JSON lines of `{"question": ..., "target": ...}`; empty lines are skipped.

    Raises:
        InputError: The file cannot be read or holds no prompt, or a line is not a prompt; names file and line.
    """
    expected = 'expected {"question": "...", "target": "..."} with texts that are not empty'
    prompts = []
    for number, row in read_json_lines(path):
        texts = row.values() if isinstance(row, dict) and row.keys() == {"question", "target"} else [None]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InputError(f"{path}, line {number}: {expected}, got {row!r}")
        prompts.append(Prompt(**row))
    if not prompts:
        raise InputError(f"{path} holds no prompt: {expected} on every line")
    return tuple(prompts)
