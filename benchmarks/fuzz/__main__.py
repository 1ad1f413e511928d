"""Hostile images, audio and PDFs through the guard's own path: `python -m benchmarks.fuzz --images 50000 --pdfs 2000`.

Every case of `images.py`, `audio.py` and `pdfs.py` goes through `media.prepare` under the default limits, and what is
accepted is perturbed and encoded once. It must end in a result within bounds or in a `MediaError` with a clean message;
write nothing to stderr and warn of nothing; and stay below `--seconds` and `--mib`. Cases run in processes of their
own, so a crash or a hang costs one case. A PDF may take 5 s instead of 20. `--only image/17` repeats one of them,
`--save FOLDER` keeps the files that failed. Memory is measured per case on Linux; elsewhere it is the most so far.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.fuzz.check import Limits, Outcome, make_case
from benchmarks.fuzz.workers import run


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the counts, the most expensive cases, and the failures by kind."""
    for kind in ("image", "audio", "pdf"):
        ended = Counter(outcome.ended for outcome in outcomes if outcome.key.startswith(kind))
        print(f"{kind:8}{ended.total():8,}  " + ", ".join(f"{name} {count:,}" for name, count in ended.most_common()))
    for title, chosen in (("slowest", lambda one: one.seconds), ("largest", lambda one: one.mib)):
        print(title)
        for outcome in sorted(outcomes, key=chosen)[-5:][::-1]:
            print(f"  {outcome.seconds:6.2f} s {outcome.mib:7,.0f} MiB  {outcome.size:10,} bytes  {_name(outcome)}")
    first, last = (median(outcome.mib for outcome in part) for part in (outcomes[:100], outcomes[-100:]))
    print(f"memory  {first:,.0f} MiB in the first hundred cases, {last:,.0f} MiB in the last, by median")
    print(f"failed  {sum(bool(outcome.failures) for outcome in outcomes):,}")
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for failure in outcome.failures:
            groups.setdefault(_kind_of(failure), []).append(outcome)
    for failure, failed in sorted(groups.items(), key=lambda group: -len(group[1])):
        print(f"{len(failed):8,}  {failure!r}")
        for outcome in sorted(failed, key=lambda one: one.size)[:3]:
            print(f"{'':10}{_name(outcome)}, {outcome.size:,} bytes: {outcome.head}")


def _kind_of(failure: str) -> str:
    """Return a failure without its numbers and details: `writes to stderr: ZIPDecode`."""
    return ": ".join(re.sub(r"0x[0-9a-f]+|[0-9.,]+", "N", failure).split(": ")[:2])[:100]


def _name(outcome: Outcome) -> str:
    return f"{outcome.key} ({outcome.made}) {outcome.ended}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Hostile images, audio and PDFs through the guard's own path.")
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--recordings", type=int, default=2_000)
    parser.add_argument("--pdfs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=Limits().seconds, help="that one case may take")
    parser.add_argument("--mib", type=float, default=Limits().mib, help="of memory that one case may take")
    parser.add_argument("--only", action="append", help="a case, such as image/17")
    parser.add_argument("--save", type=Path, help="folder for the files that failed, or that --only names")
    given = parser.parse_args()
    counts = {"image": given.images, "audio": given.recordings, "pdf": given.pdfs}
    keys = [f"{kind}/{index}" for kind, count in counts.items() for index in range(count)]
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
