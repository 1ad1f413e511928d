from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from smoothguard_guardrail.cli import app
from smoothguard_guardrail.observability.safety_log.lines import LINE
from smoothguard_guardrail.observability.safety_log.summary import Summary

START = datetime(2026, 11, 23, 10, tzinfo=UTC)


def line(minutes: float = 0, *, since: datetime = START, **values: Any) -> str:
    common = {
        "schema_version": 1,
        "version": "0.1.0",
        "id": str(uuid4()),
        "time": (since + timedelta(minutes=minutes)).isoformat(),
        "run_id": str(uuid4()),
        "num_calls": 4,
        "timings": {"total": 0.5},
    }
    figures = (
        {}
        if values.get("event") == "failure"
        else {"event": "verdict", "verdict": "passed", "action": "answered", "agreement": 1.0}
    )
    return json.dumps(common | figures | values)


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


@pytest.fixture
def log(tmp_path: Path) -> str:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    return write(
        tmp_path / "safety.log",
        line(0, usage=usage),
        line(5, agreement=0.8, clean_overruled=True, tags=["shop"], failures=["TimeoutError"]),
        line(61, agreement=0.5),
        line(62, verdict="abstained", agreement=0.25),
        line(63, verdict="skipped", num_calls=1),
        line(1500, event="failure", error="QuorumError", failures=["TimeoutError"] * 4),
    )


def figures(runner: CliRunner, *arguments: str) -> dict[str, Any]:
    result = runner.invoke(app, ["log", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_counts_and_quantiles(runner: CliRunner, log: str) -> None:
    found = figures(runner, log)
    assert found["calls"] == 6
    assert found["verdicts"] == {"passed": 3, "abstained": 1, "skipped": 1, "failed": 1}
    assert found["failures"] == {"QuorumError": 1}
    assert found["failed_model_calls"] == {"TimeoutError": 5}
    assert (found["model_calls"], found["tokens"]) == (21, 7)
    assert (found["agreement"]["p0"], found["agreement"]["p50"], found["agreement"]["p100"]) == (0.25, 0.5, 1.0)
    assert (found["first"], found["last"]) == ("2026-11-23T10:00:00+00:00", "2026-11-24T11:00:00+00:00")
    assert (found["damaged_lines"], found["lines_of_other_versions"]) == (0, 0)


def test_calls_above_the_threshold_of_suspicion_are_suspicious(runner: CliRunner, tmp_path: Path) -> None:
    lines = [line(0, suspicion=0.9, suspicious=True), line(1, suspicion=0.1, suspicious=False)]
    found = figures(runner, write(tmp_path / "safety.log", *lines))["suspicious"]
    assert (found["count"], found["reasons"]) == (1, {"suspicion": 1})


def test_suspicious_calls(runner: CliRunner, log: str) -> None:
    found = figures(runner, log)["suspicious"]
    assert (found["count"], found["reasons"]) == (3, {"low_agreement": 2, "clean_overruled": 1, "abstained": 1})
    assert [call["agreement"] for call in found["latest"]] == [0.8, 0.5, 0.25]
    assert figures(runner, log, "--low-agreement", "0.4")["suspicious"]["count"] == 2
    latest = figures(runner, log, "--limit", "1")["suspicious"]
    assert (latest["count"], [call["agreement"] for call in latest["latest"]]) == (3, [0.25])


def test_rates_add_up(runner: CliRunner, log: str) -> None:
    rates = figures(runner, log)["rates"]
    assert rates["seconds"] == 6 * 3600
    assert [(period["start"][:13], period["passed"], period["failed"]) for period in rates["periods"]] == [
        ("2026-11-23T06", 3, 0),
        ("2026-11-24T06", 0, 1),
    ]


@pytest.mark.parametrize(
    ("span", "step"),
    [
        (timedelta(minutes=20), timedelta(minutes=1)),
        (timedelta(hours=20), timedelta(hours=1)),
        (timedelta(days=20), timedelta(days=1)),
        (timedelta(days=600), timedelta(days=30)),
    ],
)
def test_periods_fit_on_a_screen(span: timedelta, step: timedelta) -> None:
    summary = Summary()
    for index in range(200):
        summary.add(LINE.validate_json(line(since=START + span * index / 199)))
    found, periods = summary.rates()
    assert found == step
    assert 2 <= len(periods) <= 24
    assert sum(counts.total() for _, counts in periods) == 200


def test_text_names_every_figure(runner: CliRunner, log: str) -> None:
    result = runner.invoke(app, ["log", log])
    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        "6 guarded calls, 2026-11-23 10:00:00 to 2026-11-24 11:00:00 UTC",
        "passed            3   50.0%",
        "QuorumError 1",
        "agreement    least 0.25",
        "model calls  21, 3.5 per guarded call; 5 failed: TimeoutError 5",
        "tokens       7",
        "per 6 h (UTC)",
        "3 suspicious calls:",
        "clean_overruled",
        "tags shop",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("since", "calls"),
    [("2026-11-24", 1), ("2026-11-23T11:02", 3), ("2026-11-23T12:02+01:00", 3), ("1w", 6), ("30m", 1)],
)
def test_since(runner: CliRunner, tmp_path: Path, log: str, since: str, calls: int) -> None:
    if since in ("1w", "30m"):
        now = datetime.now(UTC)
        log = write(tmp_path / "now.log", *(line(-60 * hours, since=now) for hours in range(6)))
    assert figures(runner, log, "--since", since)["calls"] == calls


@pytest.mark.parametrize(("verdict", "calls"), [("passed", 3), ("abstained", 1), ("failed", 1)])
def test_verdict(runner: CliRunner, log: str, verdict: str, calls: int) -> None:
    assert figures(runner, log, "--verdict", verdict)["calls"] == calls


def test_damaged_lines_are_counted(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "safety.log"
    good = line()
    broken = [good[:40], good[:40] + good, "[1]", "\x00\x00", "[" * 100_000, '{"event": "verdict"}', "\ufeff", "{}"]
    write(path, good, *broken, line(schema_version=2, unheard="of"), "", good)
    with path.open("ab") as file:
        file.write(b"\xff\xfe\n" + good.encode()[:50])
    found = figures(runner, str(path))
    assert (found["calls"], found["damaged_lines"], found["lines_of_other_versions"]) == (2, len(broken) + 2, 1)
    result = runner.invoke(app, ["log", str(path)])
    assert f"damaged lines skipped: {len(broken) + 2}\n" in result.stdout
    assert "lines of another schema version skipped: 1\n" in result.stdout


def test_rotated_files_are_named_and_read_if_given(runner: CliRunner, tmp_path: Path, log: str) -> None:
    write(first := tmp_path / "safety.log.1", line(-60))
    second = tmp_path / "safety.log.2.gz"
    second.write_bytes(gzip.compress(line(-120).encode() + b"\n"))
    write(tmp_path / "safety.log.bak", line())
    result = runner.invoke(app, ["log", log])
    assert result.stderr == f"smoothguard: rotated files were not read: {first} {second}\n"
    result = runner.invoke(app, ["log", log, str(first), str(second)])
    assert result.stderr == ""
    assert result.stdout.startswith("8 guarded calls, 2026-11-23 08:00:00")


def test_stdin(runner: CliRunner) -> None:
    assert runner.invoke(app, ["log", "-"], input=f"{line()}\n").stdout.startswith("1 guarded call, ")


def test_empty_log(runner: CliRunner, tmp_path: Path) -> None:
    path = write(tmp_path / "safety.log")
    assert runner.invoke(app, ["log", path]).stdout == "no guarded calls\n"
    assert figures(runner, path)["calls"] == 0


@pytest.mark.parametrize("arguments", [["no/such/file"], ["--since", "soon"], ["--since", "99999999d"], ["not.gz"]])
def test_bad_input_is_reported_in_one_line(runner: CliRunner, tmp_path: Path, log: str, arguments: list[str]) -> None:
    if arguments == ["not.gz"]:
        arguments = [write(tmp_path / "not.gz", line())]
    result = runner.invoke(app, ["log", log, *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    (message,) = result.stderr.splitlines()
    assert message.startswith("smoothguard: ")
