"""Hostile images and audio through the guard's own path: `python -m benchmarks.fuzz --images 50000 --recordings 20000`.

Every case of `benchmarks.hostile_media` goes through `media.prepare` under the default limits, and what is accepted is
perturbed and encoded once. It must end in a result within bounds or in a `MediaError` with a clean message; write
nothing to stderr and warn of nothing; and stay below `--seconds` and `--mib`. Cases run in processes of their own, so a
crash or a hang costs one case. `--only image/17` repeats one of them, `--save FOLDER` keeps the files that failed.
Memory is measured per case on Linux; elsewhere it is the most so far.
"""

from __future__ import annotations

import argparse
import base64
import gc
import math
import multiprocessing
import os
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import torch
from langchain_core.messages import BaseMessage, HumanMessage

from benchmarks.hostile_media import Case, hostile_audio, hostile_image
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.request_perturber import RequestPerturber
from smoothguard_guardrail.errors import MediaError
from smoothguard_guardrail.media import prepare

CONFIG = SmoothGuardConfig(device="cpu")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}|object at", re.IGNORECASE)
MAX_MESSAGE = 500
"""Characters of an error's message; more is the attacker's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one case may take."""

    seconds: float = 20.0
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
    return hostile_image(rng) if key.startswith("image/") else hostile_audio(rng)


def check(key: str, seed: int, limits: Limits, *, resident: float) -> Outcome:
    """Send one case through the guard's path; return how it ended and what is wrong with that.

    Args:
        key: Names the case.
        seed: Of all cases.
        limits: What it may take.
        resident: Memory of the process before its first case, in MiB.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of making the case, which is not under test
        made, data = make_case(key, seed)
    kind = key.partition("/")[0]
    block = {"type": kind, "base64": base64.b64encode(data).decode(), "mime_type": f"{kind}/png"}
    gc.collect()
    reset_peak()
    failures: list[str] = []
    start = time.perf_counter()
    with _quiet(failures), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        ended = _send([HumanMessage([block])], failures) if data else "empty"
    seconds, mib = time.perf_counter() - start, peak_memory() - resident
    if seconds > limits.seconds:
        failures.append(f"takes {seconds:.0f} s")
    if mib > limits.mib:
        failures.append(f"takes {mib:,.0f} MiB")
    failures += {f"warns: {warning.category.__name__}: {warning.message}" for warning in warned}
    return Outcome(
        key=key,
        made=made,
        head=data[:24].hex(" ", 4),
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


class _quiet:  # noqa: N801
    """Catches what libraries write to stderr past Python."""

    def __init__(self, failures: list[str]) -> None:
        self._failures = failures

    def __enter__(self) -> None:
        sys.stderr.flush()
        self._file = tempfile.TemporaryFile()
        self._stderr = os.dup(2)
        os.dup2(self._file.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()
        os.dup2(self._stderr, 2)
        os.close(self._stderr)
        self._file.seek(0)
        text = self._file.read(2_000).decode(errors="replace")
        self._file.close()
        if text:
            self._failures.append(f"writes to stderr: {text.splitlines()[0]}")


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


def work(connection: Connection, seed: int, limits: Limits) -> None:
    """Check the cases whose keys arrive, in a process of its own."""
    torch.set_num_threads(1)
    reset_peak()
    resident = peak_memory()
    while True:
        connection.send(check(connection.recv(), seed, limits, resident=resident))


class Worker:
    """A process that checks one case after another, and is replaced when it dies or hangs."""

    def __init__(self, seed: int, limits: Limits) -> None:
        self._seed, self._limits = seed, limits
        self._process: multiprocessing.process.BaseProcess | None = None

    def check(self, key: str) -> Outcome:
        """Check one case; the death of the process, or too long a silence, is its failure."""
        connection, process = self._started()
        start = time.perf_counter()
        connection.send(key)
        try:
            if connection.poll(self._limits.seconds + 30):  # making the case takes time too
                outcome: Outcome = connection.recv()
                return outcome
            failure = "hangs"
        except (EOFError, ConnectionError):
            process.join()
            failure = f"crashes with exit code {process.exitcode}"
        seconds = time.perf_counter() - start
        self.close()
        made, data = make_case(key, self._seed)
        head = data[:24].hex(" ", 4)
        return Outcome(
            key=key, made=made, head=head, size=len(data), ended="lost", failures=(failure,), seconds=seconds
        )

    def _started(self) -> tuple[Connection, multiprocessing.process.BaseProcess]:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, there = context.Pipe()
            self._process = context.Process(target=work, args=(there, self._seed, self._limits), daemon=True)
            self._process.start()
            there.close()
            self._connection.send("image/0")  # imports, and the first use of everything
            self._connection.recv()
        return self._connection, self._process

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def run(keys: Sequence[str], *, seed: int, limits: Limits, workers: int = 1) -> list[Outcome]:
    """Check the cases, shared out among the workers."""

    def drive(first: int) -> list[Outcome]:
        worker, outcomes = Worker(seed, limits), []
        for done, key in enumerate(keys[first::workers], 1):
            outcomes.append(worker.check(key))
            if done % 1_000 == 0:
                print(f"worker {first}: {done:,} cases", file=sys.stderr, flush=True)
        worker.close()
        return outcomes

    with ThreadPoolExecutor(workers) as pool:
        return [outcome for share in pool.map(drive, range(workers)) for outcome in share]


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the counts, the most expensive cases, and the failures by kind."""
    for kind in ("image", "audio"):
        ended = Counter(outcome.ended for outcome in outcomes if outcome.key.startswith(kind))
        print(f"{kind:8}{ended.total():8,}  " + ", ".join(f"{name} {count:,}" for name, count in ended.most_common()))
    for title, chosen in (("slowest", lambda one: one.seconds), ("largest", lambda one: one.mib)):
        print(title)
        for outcome in sorted(outcomes, key=chosen)[-5:][::-1]:
            print(f"  {outcome.seconds:6.2f} s {outcome.mib:7,.0f} MiB  {outcome.size:10,} bytes  {_name(outcome)}")
    print(f"failed  {sum(bool(outcome.failures) for outcome in outcomes):,}")
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for failure in outcome.failures:
            groups.setdefault(re.sub(r"0x[0-9a-f]+|[0-9.,]+", "N", failure)[:75], []).append(outcome)
    for failure, failed in sorted(groups.items(), key=lambda group: -len(group[1])):
        print(f"{len(failed):8,}  {failure!r}")
        for outcome in sorted(failed, key=lambda one: one.size)[:3]:
            print(f"{'':10}{_name(outcome)}, {outcome.size:,} bytes: {outcome.head}")


def _name(outcome: Outcome) -> str:
    return f"{outcome.key} ({outcome.made}) {outcome.ended}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Hostile images and audio through the guard's own path.")
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--recordings", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=Limits().seconds, help="that one case may take")
    parser.add_argument("--mib", type=float, default=Limits().mib, help="of memory that one case may take")
    parser.add_argument("--only", action="append", help="a case, such as image/17")
    parser.add_argument("--save", type=Path, help="folder for the files that failed, or that --only names")
    given = parser.parse_args()
    keys = [f"image/{index}" for index in range(given.images)] + [f"audio/{index}" for index in range(given.recordings)]
    limits = Limits(seconds=given.seconds, mib=given.mib)
    outcomes = run(given.only or keys, seed=given.seed, limits=limits, workers=given.workers)
    report(outcomes)
    if given.save:
        given.save.mkdir(parents=True, exist_ok=True)
        for outcome in outcomes:
            if outcome.failures or given.only:
                path = given.save / outcome.key.replace("/", "-")
                path.write_bytes(make_case(outcome.key, given.seed)[1])
    if any(outcome.failures for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
