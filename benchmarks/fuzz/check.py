"""One case through the guard's path, and what is wrong with how it ended."""

from __future__ import annotations

import base64
import math
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from langchain_core.messages import BaseMessage, HumanMessage

from benchmarks.fuzz.audio import hostile_audio
from benchmarks.fuzz.damage import Case
from benchmarks.fuzz.images import hostile_image
from benchmarks.fuzz.pdfs import hostile_pdf
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.errors import MediaError
from smoothguard_guardrail.media import prepare

CONFIG = SmoothGuardConfig(device="cpu").override(media={"pdf": {"timeout": 5}})
_MAKERS = {"image": hostile_image, "audio": hostile_audio, "pdf": hostile_pdf}
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|object at", re.IGNORECASE)
MAX_MESSAGE = 500
"""Characters of an error's message; more is the attacker's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one case may take."""

    seconds: float = 20.0
    """Of processor time."""
    mib: float = 2_048.0
    """Resident memory above that of the fresh process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one case."""

    key: str
    """Kind and index, such as `image/17`."""
    made: str
    """What the case is, in a few words."""
    head: str
    """Its first bytes, in hex."""
    size: int
    ended: str
    """`accepted`, or the class of the error."""
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    mib: float = 0.0
    """Peak of the resident memory above that of the fresh process."""


def make_case(key: str, seed: int) -> Case:
    """Return the case of a key; it depends on nothing else than the seed."""
    rng = Random(f"{seed}/{key}")  # noqa: S311
    with caught_stderr([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _MAKERS[key.partition("/")[0]](rng)


def first_bytes(data: bytes) -> str:
    """Return the first bytes in hex."""
    return data[:24].hex(" ", 4)


def check(key: str, case: Case, limits: Limits, *, resident: float) -> Outcome:
    """Send one case through the guard's path; return how it ended and what is wrong with that.

    Args:
        key: Names the case.
        case: Its description and bytes.
        limits: What it may take.
        resident: Memory of the process before its first case, in MiB.
    """
    made, data = case
    kind = key.partition("/")[0]
    block = {
        "type": "file" if kind == "pdf" else kind,
        "base64": base64.b64encode(data).decode(),
        "mime_type": f"{kind}/png",
    }
    reset_peak()
    failures: list[str] = []
    start = time.process_time()
    with caught_stderr(failures), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ended = _send([HumanMessage([block])], failures) if data else "empty"
    seconds, mib = time.process_time() - start, peak_memory() - resident
    if seconds > limits.seconds:
        failures.append(f"takes {seconds:.0f} s")
    if mib > limits.mib:
        failures.append(f"takes {mib:,.0f} MiB")
    failures += sorted({f"warns of {warning.category.__name__}: {warning.message}" for warning in warned})
    return Outcome(
        key=key,
        made=made,
        head=first_bytes(data),
        size=len(data),
        ended=ended,
        failures=tuple(failures),
        seconds=seconds,
        mib=mib,
    )


def _send(messages: list[BaseMessage], failures: list[str]) -> str:
    """Prepare, perturb and encode once; return how it ended."""
    try:
        prepared = prepare(messages, CONFIG.media)
        perturber = RequestPerturber(prepared, config=CONFIG, model_info=ModelInfo(), seed=0)
        (noisy,) = perturber.render(1, 1)
    except MediaError as error:
        failures += [f"message {flaw}: {error.reason}" for flaw in _flaws(str(error))]
        return type(error).__name__
    except Exception as error:
        failures.append(f"raises {type(error).__name__}: {error}")
        return type(error).__name__
    for medium in prepared.media:
        low, high = torch.aminmax(medium.tensor)
        if not (-1.0 if medium.kind == "audio" else 0.0) <= float(low) <= float(high) <= 1.0:
            failures.append(f"values from {float(low)} to {float(high)}")
    if not prepared.media or noisy[0].content == messages[0].content:
        failures.append("reaches the model unguarded")
    return "accepted"


def _flaws(message: str) -> Iterator[str]:
    if ADDRESS.search(message):
        yield "holds an address"
    if not message.isprintable():
        yield "is not one printable line"
    if len(message) > MAX_MESSAGE:
        yield "is long"


@contextmanager
def caught_stderr(failures: list[str]) -> Iterator[None]:
    """Add the first line that is written to stderr, by libraries in C too, to the failures."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        if text := file.read(2_000).decode(errors="replace"):
            failures.append(f"writes to stderr: {text.splitlines()[0]}")


def reset_peak() -> None:
    """Start measuring the most resident memory anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> float:
    """Return the most resident memory since the last reset, in MiB; since the start where there is no reset."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    found = re.search(r"VmHWM:\s+(\d+)", status)
    return int(found[1]) / 2**10 if found else math.nan
