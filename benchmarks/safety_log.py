"""How long `smoothguard log --html` takes, and how much memory, for logs of 100,000 and 1,000,000 lines.

    python -m benchmarks.safety_log [LINES ...]

The log is made up: 30 days of six clients, one of whom tries one image again and again, two values of sigma, and some
half-written lines. Every run is a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

START = datetime(2026, 11, 1, tzinfo=UTC)
SPAN = timedelta(days=30)
CLIENTS = ("shop", "support", "search", "mobile", "batch", "partner-eu")
ATTACKED = hashlib.sha256(b"the image that comes again").hexdigest()


def log_lines(count: int, *, seed: int = 0) -> Iterator[str]:
    """Yield the lines of a made-up safety log, each with its line end."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    for index in range(count):
        line = json.dumps(_line(rng, index, count), separators=(",", ":"))
        yield f"{line[: len(line) // 2] if rng.random() < 1e-4 else line}\n"


def _line(rng: random.Random, index: int, count: int) -> dict[str, Any]:
    share = index / count
    attacked = 0.6 < share < 0.7 and rng.random() < 0.05
    client = "partner-eu" if attacked else rng.choice(CLIENTS)
    seconds = rng.lognormvariate(0.2, 0.4) * (1.6 if 0.4 < share < 0.5 else 1)
    sigma = 0.05 if share < 0.55 else 0.08
    settings = {"image": {"sigma": sigma}, "include_clean": True}
    line: dict[str, Any] = {
        "schema_version": 1,
        "version": "0.1.0",
        "settings": settings,
        "settings_hash": hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        "id": str(UUID(int=rng.getrandbits(128), version=4)),
        "time": (START + share * SPAN).isoformat(),
        "run_id": str(UUID(int=rng.getrandbits(128), version=4)),
        "tags": [rng.choice(("web", "app", "nightly"))],
        "metadata": {"client": client, "model": "llava-1.5-7b" if client == "batch" else "gpt-4o"},
        "timings": {"scan": 0.004, "perturb": 0.06, "model": seconds, "vote": 0.02, "total": seconds + 0.084},
    }
    if rng.random() < 0.01:
        error = rng.choice(("UnsupportedMediaError", "MediaLimitError", "QuorumError"))
        return line | {"event": "failure", "error": error, "failures": ["RateLimitError"] * 3}
    if rng.random() < 0.15:
        return line | {
            "event": "verdict",
            "verdict": "skipped",
            "action": "skipped",
            "reason": "no_media",
            "agreement": 1.0,
            "num_calls": 1,
        }
    return line | _vote(rng, attacked=attacked, sigma=sigma)


def _vote(rng: random.Random, *, attacked: bool, sigma: float) -> dict[str, Any]:
    size = rng.randint(4, 6) if attacked or rng.random() < 0.02 else rng.choice((8, 8, 8, 8, 7))
    abstained = size < 5
    sha256 = ATTACKED if attacked else hashlib.sha256(str(rng.getrandbits(18)).encode()).hexdigest()
    clusters = [
        {
            "label": label,
            "size": number,
            "share": number / 8,
            "stance": "answers",
            "score": number / 8,
            "representative": 0,
        }
        for label, number in enumerate((size, 8 - size))
        if number
    ]
    return {
        "event": "verdict",
        "verdict": "abstained" if abstained else "passed",
        "action": "refused" if abstained else "answered",
        "agreement": size / 8,
        "reason": "low_agreement" if abstained else "majority",
        "suspicion": min(1.0, rng.betavariate(6, 2) if attacked else rng.betavariate(1, 12)),
        "suspicious": attacked,
        "clean_overruled": attacked,
        "num_calls": 8,
        "clusters": clusters,
        "winner": 0,
        "media": [
            {
                "path": "messages[0].content[1]",
                "kind": "image",
                "action": "perturbed",
                "mime_type": "image/jpeg",
                "num_bytes": 81_234,
                "sha256": sha256,
                "size": [1024, 768],
                "perturbed_size": [1024, 768],
                "size_known_by": "documentation",
                "noise_sd": sigma,
                "effective_sd": sigma,
                "notes": [],
            }
        ],
        "sigma": sigma,
        "noise_space": "pixel",
        "usage": {"input_tokens": 6800, "output_tokens": 240, "total_tokens": 7040},
    }


def main() -> None:
    """Write the logs, run the command on each, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=int, nargs="*", default=[100_000, 1_000_000])
    print(f"{'lines':>9}  {'MB':>6}  {'seconds':>7}  {'CPU s':>6}  {'peak MB':>7}")
    for count in parser.parse_args().lines:
        with TemporaryDirectory() as folder:
            log, page = Path(folder, "safety.jsonl"), Path(folder, "log.html")
            with log.open("w") as file:
                file.writelines(log_lines(count))
            wall, cpu, peak = _run(
                [sys.executable, "-m", "smoothguard_guardrail.cli", "log", str(log), "--html", str(page)]
            )
            print(f"{count:>9,}  {log.stat().st_size / 1e6:>6.0f}  {wall:>7.1f}  {cpu:>6.1f}  {peak:>7.0f}", flush=True)


def _run(command: list[str]) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and peak megabytes of a process; the peak is the largest so far."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own command
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 1024


if __name__ == "__main__":
    main()
