"""The saved state of a long attack, from which a later run can resume."""

from __future__ import annotations

import hashlib
import pickle
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from smoothguard_guardrail._internal.files import atomic_file
from smoothguard_guardrail.errors import ConfigurationError

SAVE_STEPS = 100
SAVE_SECONDS = 60.0


class Checkpoint:
    """A file with the state of an attack: written atomically, deleted when the attack is done.

    Args:
        path: The file, in a folder that exists; None: nothing is saved.
        digest: Identifies the attack's settings and inputs: a file with another digest is refused.

    Raises:
        ConfigurationError: The folder does not exist.
    """

    def __init__(self, path: Path | str | None, digest: str) -> None:
        self._path = None if path is None else Path(path)
        self._digest = digest
        self._saved_at = time.monotonic()
        self.latest: dict[str, Any] | None = None
        """The state after the latest complete step."""
        if self._path is not None and not self._path.parent.is_dir():
            raise ConfigurationError(f"the folder of checkpoint {self._path} does not exist: create it first")

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the saved state, or None if there is no file yet.

        Raises:
            ConfigurationError: The file cannot be read, or belongs to other settings or inputs.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            content = torch.load(self._path, map_location=device, weights_only=True)
            digest, state = content["digest"], content["state"]
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise ConfigurationError(f"checkpoint {self._path} cannot be read, delete it: {error}") from error
        if digest != self._digest:
            raise ConfigurationError(
                f"checkpoint {self._path} belongs to other settings or inputs: delete it or name another file"
            )
        return dict(state)

    def complete(self, step: int, dump: Callable[[], dict[str, Any]]) -> None:
        """Take note of the state after a complete step, and save it every 100 steps or 60 seconds.

        Args:
            step: How many are complete.
            dump: Returns the state; not called without a file.
        """
        if self._path is None:
            return
        self.latest = dump()
        if (step > 0 and step % SAVE_STEPS == 0) or time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save(self.latest)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state, which consists of tensors, numbers, lists and dicts."""
        if self._path is not None:
            with atomic_file(self._path) as file:
                torch.save({"digest": self._digest, "state": state}, file)
            self._saved_at = time.monotonic()

    @contextmanager
    def saved_when_interrupted(self) -> Iterator[None]:
        """Save the latest state if the block is interrupted (Ctrl-C)."""
        try:
            yield
        except KeyboardInterrupt:
            if self.latest is not None:
                self.save(self.latest)
            raise

    def delete(self) -> None:
        """Delete the file: the attack is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def digest_of(*parts: object) -> str:
    """Return a hash of tensors (their bytes) and of anything else (its `repr` without memory addresses).

    Objects without a `repr` of their own count by their attributes, functions by their code.

    Example:
        >>> digest_of(torch.zeros(2), "linf") == digest_of(torch.zeros(2), "linf") != digest_of("linf")
        True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            digest.update(f"{part.dtype} {(*part.shape,)}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", _detailed_repr(part)).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _detailed_repr(value: object, depth: int = 3) -> str:
    """Return a `repr` that also shows attributes and code where Python shows only the type."""
    if depth and isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_detailed_repr(each, depth - 1)}' for key, each in value.items())}}}"
    if depth and isinstance(value, FunctionType):
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        parts = [*closure, value.__defaults__, value.__kwdefaults__]
        return (
            f"{value!r} {code.co_code.hex()} {code.co_consts!r} {[_detailed_repr(each, depth - 1) for each in parts]}"
        )
    if depth and type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__"):
        return f"{value!r} {_detailed_repr(vars(value), depth - 1)}"
    return repr(value)
