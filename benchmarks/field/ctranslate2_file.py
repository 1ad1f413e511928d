"""Reads the weights in a file of CTranslate2, without its library."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

_VERSION = 6
_DTYPES: dict[int, Any] = dict(enumerate(map(np.dtype, ("<f4", "i1", "<i2", "<i4", "<f2"))))


class WeightsError(Exception):
    """A file of weights is not what the reader expects."""


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """Return the variables of a model by name, aliases included.

    The file is a sequence: version, specification and revision; then each variable's name, shape, dtype and bytes;
    then pairs of names that share one variable. Numbers are little-endian, names end with a zero byte.

    Args:
        file: `model.bin`, of version 6 of the binary format.

    Returns:
        Tensors in the file's own dtypes; half precision becomes float32.

    Raises:
        WeightsError: The version or a dtype is another, or the file ends early.

    Source: `ModelSpec._serialize` in CTranslate2's `specs/model_spec.py`.
    """
    with io.BytesIO(file.read_bytes()) as stream:
        (version,) = _numbers(stream, "I")
        if version != _VERSION:
            raise WeightsError(f"{file.name}: expected a CTranslate2 file of version {_VERSION}, got {version}")
        _name(stream)
        _numbers(stream, "I")
        weights = dict(_variable(stream, file) for _ in range(*_numbers(stream, "I")))
        for _ in range(*_numbers(stream, "I")):
            alias, name = _name(stream), _name(stream)
            weights[alias] = weights[name]
    return weights


def _variable(stream: BinaryIO, file: Path) -> tuple[str, torch.Tensor]:
    name = _name(stream)
    (rank,) = _numbers(stream, "B")
    shape = _numbers(stream, "I" * rank)
    code, num_bytes = _numbers(stream, "BI")
    if code not in _DTYPES:
        raise WeightsError(f"{file.name}: {name} is of the unknown dtype {code}")
    dtype = _DTYPES[code]
    if num_bytes != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{file.name}: {name} of shape {shape} has {num_bytes} bytes")
    values = np.frombuffer(_bytes(stream, num_bytes), dtype).reshape(shape)
    return name, torch.from_numpy(values.astype(np.float32) if dtype.kind == "f" else values.copy())


def _name(stream: BinaryIO) -> str:
    return _bytes(stream, *_numbers(stream, "H")).rstrip(b"\0").decode("utf-8")


def _numbers(stream: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(f"<{form}", _bytes(stream, struct.calcsize(f"<{form}")))


def _bytes(stream: BinaryIO, number: int) -> bytes:
    found = stream.read(number)
    if len(found) < number:
        raise WeightsError("the file of weights ends early")
    return found
