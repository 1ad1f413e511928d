"""Hostile media end in a result or in the package's own errors; `python -m benchmarks.fuzz` sends many more."""

from __future__ import annotations

import math

import pytest

from benchmarks.fuzz import check
from benchmarks.fuzz.__main__ import report
from benchmarks.fuzz.check import Limits, Outcome, make_case, peak_memory, reset_peak
from benchmarks.fuzz.workers import Worker

LIMITS = Limits(seconds=math.inf)
KNOWN = ("warns of ", "writes to stderr: ")
"""What decoders still let through."""


def checked(kind: str, count: int) -> list[Outcome]:
    reset_peak()
    resident = peak_memory()
    keys = [f"{kind}/{index}" for index in range(count)]
    return [check.check(key, make_case(key, 0), LIMITS, resident=resident) for key in keys]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("image", 60), ("audio", 30), ("pdf", 12), ("video", 40)])
def test_hostile_media_are_guarded_or_refused(kind: str, count: int) -> None:
    outcomes = checked(kind, count)
    failures = [(each.key, failure) for each in outcomes for failure in each.failures if not failure.startswith(KNOWN)]
    assert not failures
    assert {"accepted", "MediaError"} <= {outcome.ended for outcome in outcomes}


@pytest.mark.parametrize("key", ["image/7", "audio/7", "pdf/7", "video/7"])
def test_the_same_seed_makes_the_same_case(key: str) -> None:
    assert make_case(key, 0) == make_case(key, 0)
    assert make_case(key, 0) != make_case(key, 1)


def test_errors_that_are_not_the_packages_own_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("size")

    monkeypatch.setattr(check, "prepare", broken)
    (outcome,) = checked("image", 1)
    assert outcome.failures == ("raises KeyError: 'size'",)


@pytest.mark.slow
def test_a_crash_costs_one_case(capsys: pytest.CaptureFixture[str]) -> None:
    worker = Worker(0, LIMITS)
    _, process = worker.started()
    process.kill()
    lost, next_one = worker.check("image/1"), worker.check("image/2")
    worker.close()
    assert lost.failures == ("crashes with exit code -9",)
    assert next_one.ended != "lost"
    report([lost, next_one])
    assert "image/1" in capsys.readouterr().out
