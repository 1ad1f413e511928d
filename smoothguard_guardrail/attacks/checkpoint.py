"""Where a long attack writes down how far it came, so that a later run can go on from there."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import time
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from smoothguard_guardrail.errors import ConfigurationError

SAVE_STEPS = 100
SAVE_SECONDS = 60.0


class Checkpoint:
    """A file with the state of an attack: written whole or not at all, removed when the attack is done.

    Args:
        path: The file; None: nothing is kept. Its folder has to exist.
        fingerprint: Of the attack's settings and inputs: a file of others is refused.

    Raises:
        ConfigurationError: If the folder does not exist.
    """

    def __init__(self, path: Path | str | None, fingerprint: str) -> None:
        self._path = None if path is None else Path(path)
        self._fingerprint = fingerprint
        self._saved_at = time.monotonic()
        if self._path is not None and not self._path.parent.is_dir():
            raise ConfigurationError(f"the folder of checkpoint {self._path} does not exist")

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state in the file, or None where there is no file yet.

        Raises:
            ConfigurationError: If the file cannot be read, or is of other settings or inputs.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            content = torch.load(self._path, map_location=device, weights_only=True)
            fingerprint, state = content["fingerprint"], content["state"]
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise ConfigurationError(f"checkpoint {self._path} cannot be read, delete it: {error}") from error
        if fingerprint != self._fingerprint:
            raise ConfigurationError(
                f"checkpoint {self._path} is of an attack with other settings or inputs: delete it or name another file"
            )
        return dict(state)

    def is_due(self, step: int) -> bool:
        """Return whether the state should be saved after this step."""
        if self._path is None:
            return False
        return step % SAVE_STEPS == 0 or time.monotonic() - self._saved_at >= SAVE_SECONDS

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, made of tensors, numbers, lists and dicts, in place of the last one."""
        if self._path is None:
            return
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                torch.save({"fingerprint": self._fingerprint, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        finally:
            partial.unlink(missing_ok=True)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the attack is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def fingerprint(*parts: object) -> str:
    """Return a hash of tensors (their bytes) and of anything else (its `repr`, without addresses in memory).

    Of objects that have no `repr` of their own the attributes count, and of functions the code.

    Example:
        >>> fingerprint(torch.zeros(2), "linf") == fingerprint(torch.zeros(2), "linf") != fingerprint("linf")
        True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, torch.Tensor):
            digest.update(f"{part.dtype} {(*part.shape,)}".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(re.sub(r" at 0x[0-9a-f]+", "", _told(part)).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _told(value: object, depth: int = 3) -> str:
    """Return a `repr` that tells values apart, where Python's own tells only the type."""
    if depth and isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_told(each, depth - 1)}' for key, each in value.items())}}}"
    if depth and isinstance(value, FunctionType):
        inside = [cell.cell_contents for cell in value.__closure__ or ()]
        code = value.__code__
        parts = [*inside, value.__defaults__, value.__kwdefaults__]
        return f"{value!r} {code.co_code.hex()} {code.co_consts!r} {[_told(each, depth - 1) for each in parts]}"
    if depth and type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__"):
        return f"{value!r} {_told(vars(value), depth - 1)}"
    return repr(value)
