"""`smoothguard log --html`: the page says what the plain summary says, and hostile values stay text."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.safety_log import ATTACKED, log_lines
from smoothguard_guardrail.cli import app
from smoothguard_guardrail.observability.safety_log.database import open_log
from smoothguard_guardrail.observability.safety_log.figures import MAX_PERIODS, Counts, Figures, find_figures
from smoothguard_guardrail.observability.safety_log.filters import LineFilter
from smoothguard_guardrail.observability.safety_log.reader import SkippedLines, read_log
from smoothguard_guardrail.observability.safety_log.summary import Summary

HOSTILE = (
    "<script>alert(1)</script>",
    "</pre></script><img src=x onerror=alert(1)>",
    '\'" onmouseover=alert(1) x="',
    "{{ 7 * 7 }}{% raw %}",
    '=HYPERLINK("http://evil.example")',
    "'; drop table lines; --",
    "\u202egnp.exe\x00",
    "x" * 5000,
)


class Page(HTMLParser):
    """Every element and attribute of a page, as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "safety.jsonl"
    lines = list(log_lines(3000))
    broken = [lines[0][:40], lines[1][:50] + lines[2].strip(), "[1]", "\x00", "[" * 100_000, "{}", "\ufeff{}", '"x"']
    other = json.dumps(json.loads(lines[3]) | {"schema_version": 7})
    extra = json.dumps(json.loads(lines[4]) | {"unheard": "of"})
    infinite = json.dumps(json.loads(lines[5]) | {"agreement": float("nan")})
    path.write_text("".join(lines) + "\n".join(["", *broken, other, extra, infinite, lines[6][:-30]]))
    return path


def figures_of(path: Path, chosen: LineFilter | None = None) -> tuple[Figures, SkippedLines]:
    with open_log([path], chosen) as (connection, skipped):
        return find_figures(connection), skipped


def summary_of(path: Path, chosen: LineFilter) -> tuple[Summary, SkippedLines]:
    skipped, summary = SkippedLines(), Summary()
    for line in read_log([path], skipped):
        if chosen.matches(line):
            summary.add(line)
    return summary, skipped


def write_page(runner: CliRunner, tmp_path: Path, *arguments: str | Path) -> str:
    page = tmp_path / "log.html"
    result = runner.invoke(app, ["log", *map(str, arguments), "--html", str(page)])
    assert result.exit_code == 0, result.output
    return page.read_text()


CHOICES: tuple[dict[str, Any], ...] = (
    {},
    {"verdict": "failed"},
    {"verdict": "abstained", "tag": "web"},
    {"client": "partner-eu"},
    {"tag": "' or true --"},
)


@pytest.mark.slow
@pytest.mark.parametrize("choice", [*CHOICES, "time", "id"], ids=str)
def test_the_database_finds_what_the_plain_reader_finds(made_up: Path, choice: Any) -> None:
    lines = list(read_log([made_up], SkippedLines()))
    chosen = (
        LineFilter(since=lines[700].time, until=lines[2100].time)
        if choice == "time"
        else LineFilter(id=lines[42].id)
        if choice == "id"
        else LineFilter(**choice)
    )
    figures, skipped = figures_of(made_up, chosen)
    summary, expected_skipped = summary_of(made_up, chosen)
    assert skipped == expected_skipped
    assert {name: getattr(figures.total, name) for name in ("passed", "abstained", "skipped", "failed")} == {
        name: summary.verdicts[name] for name in ("passed", "abstained", "skipped", "failed")
    }
    assert (figures.total.calls, figures.total.suspicious) == (summary.calls, summary.num_suspicious)
    assert (figures.total.first, figures.total.last) == (summary.first, summary.last)
    assert {group.name: group.counts.calls for group in figures.groups["errors"]} == summary.failures
    assert {group.name: group.counts.calls for group in figures.groups["errors of model calls"]} == (
        summary.failed_model_calls
    )
    repeated = {group.name: group.counts.suspicious for group in figures.hashes if group.counts.suspicious > 1}
    assert repeated == summary.repeated_media
    assert sum(period.counts.calls for period in figures.periods) == summary.calls
    for quantity, found in (("agreement", summary.agreement), ("seconds", summary.seconds)):
        values = figures.quantiles[quantity]
        assert (values[0], values[-1]) == (found[0.0], found[1.0]) if values else not found


@pytest.mark.slow
def test_one_image_tried_again_and_again_comes_first(runner: CliRunner, made_up: Path, tmp_path: Path) -> None:
    figures, _ = figures_of(made_up)
    assert figures.hashes[0].name == ATTACKED
    assert figures.hashes[0].counts.clients == 1
    assert ATTACKED[:16] in write_page(runner, tmp_path, made_up)
    assert f"{ATTACKED}  {figures.hashes[0].counts.suspicious:,} suspicious calls" in (
        runner.invoke(app, ["log", str(made_up)]).stdout
    )


def test_every_change_of_settings_is_a_row(made_up: Path) -> None:
    names = [group.name for group in figures_of(made_up)[0].settings]
    assert [name.rpartition(" · ")[2] for name in names] == [
        '{"image":{"sigma":0.05},"include_clean":true}',
        '{"image":{"sigma":0.08},"include_clean":true}',
    ]


def test_the_page_names_what_was_asked_for_and_what_could_not_be_read(
    runner: CliRunner, made_up: Path, tmp_path: Path
) -> None:
    page = write_page(runner, tmp_path, made_up, "--client", "shop", "--verdict", "failed")
    assert "Only calls with verdict failed, client shop." in page
    damaged = figures_of(made_up)[1].damaged
    assert f"Damaged lines skipped: {damaged}." in page
    assert "Lines of another schema version skipped: 1." in page


def test_one_call_is_shown_whole(runner: CliRunner, made_up: Path, tmp_path: Path) -> None:
    line = next(line for line in read_log([made_up], SkippedLines()) if line.event == "verdict" and line.media)
    page = unescape(write_page(runner, tmp_path, made_up, "--id", line.id))
    assert (str(line.run_id) in page, line.media[0].sha256 in page) == (True, True)
    assert "Over time" not in page
    printed = json.loads(runner.invoke(app, ["log", str(made_up), "--id", line.id]).stdout)
    assert printed == line.model_dump(mode="json", exclude_none=True)
    absent = runner.invoke(app, ["log", str(made_up), "--id", "none"])
    assert (absent.exit_code, absent.stderr) == (2, "smoothguard: the log has no such call: none\n")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page of a log without hostile values."""
    folder = tmp_path_factory.mktemp("calm")
    return Page(write_page(CliRunner(), folder, _calm(folder)))


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_stay_text(runner: CliRunner, calm: Page, tmp_path: Path, text: str) -> None:
    rng = random.Random(0)
    lines = []
    for line in map(json.loads, log_lines(40)):
        line["tags"] = [text]
        line["metadata"] = {"client": text, "model": text, text[:50]: text}
        if line["event"] == "failure":
            line |= {"error": text, "failures": [text], "message": text}
        else:
            line["agreement"] = rng.choice((0.3, 1.0))
            line["media"] = [{"path": text, "kind": text, "action": "perturbed", "sha256": text}] * 2
        lines.append(json.dumps(line))
    log = tmp_path / "hostile [*]?.jsonl"
    log.write_text("\n".join(lines))
    html = write_page(runner, tmp_path, log, "--tag", text)
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm.elements}
    names = {name for _, attributes in page.elements for name in attributes}
    assert names <= {name for _, attributes in calm.elements for name in attributes}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    (policy,) = [each["content"] for tag, each in page.elements if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    fetched = {value for tag, each in page.elements for name in ("src", "href") if (value := each.get(name))}
    assert all(value.startswith(("#", "data:")) for value in fetched)
    assert len(html) < 2_000_000


def _calm(tmp_path: Path) -> Path:
    path = tmp_path / "calm.jsonl"
    path.write_text("".join(log_lines(600)))
    return path


@pytest.mark.slow
def test_compressed_files_stdin_and_names_that_look_like_patterns(
    runner: CliRunner, tmp_path: Path, made_up: Path
) -> None:
    packed = tmp_path / "[a-z]*.jsonl.gz"
    packed.write_bytes(gzip.compress(made_up.read_bytes()))
    once, twice = figures_of(packed)[0].total.calls, tmp_path / "twice.html"
    assert once == figures_of(made_up)[0].total.calls
    lines = "".join(log_lines(10))
    result = runner.invoke(app, ["log", "-", str(packed), "--html", str(twice)], input=lines)
    assert result.stdout.startswith(f"{once + 10:,} guarded calls")


@pytest.mark.slow
def test_absurd_times_do_not_make_an_endless_page(runner: CliRunner, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in log_lines(8)]
    times = [
        "1970-01-01T00:00:00Z",
        "2199-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "infinity",
        "294246-01-01T00:00:00Z",
    ]
    for line, time in zip(lines, times, strict=False):
        line["time"] = time
    log = tmp_path / "safety.jsonl"
    log.write_text("\n".join(map(json.dumps, lines)))
    figures, skipped = figures_of(log)
    assert (figures.total.calls, skipped.damaged) == (5, 3)
    assert len(figures.periods) <= MAX_PERIODS
    assert len(write_page(runner, tmp_path, log)) < 500_000


def test_an_empty_log_is_a_page_too(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "There are no such calls." in write_page(runner, tmp_path, tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/file"], "No such file"),
        (["--json"], "--json or --html, not both"),
        (["--until", "soon"], "--until must be a time"),
        (["not.gz"], "not.gz"),
    ],
)
def test_bad_input_is_one_line(
    runner: CliRunner, tmp_path: Path, made_up: Path, arguments: list[str], words: str
) -> None:
    if arguments == ["not.gz"]:
        (tmp_path / "not.gz").write_text("plain text")
        arguments = [str(tmp_path / "not.gz")]
    result = runner.invoke(app, ["log", str(made_up), *arguments, "--html", str(tmp_path / "page.html")])
    assert (result.exit_code, result.stdout) == (2, "")
    (message,) = result.stderr.splitlines()
    assert re.match(r"smoothguard: ", message)
    assert words in message
    assert not (tmp_path / "page.html").exists()


def test_a_missing_package_names_the_pip_command(
    runner: CliRunner, made_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    result = runner.invoke(app, ["log", str(made_up), "--html", str(tmp_path / "page.html")])
    assert result.stderr == "smoothguard: duckdb is missing: pip install 'smoothguard-guardrail[log]'\n"
    assert runner.invoke(app, ["log", str(made_up)]).exit_code == 0


def test_counts_name_their_parts() -> None:
    counts = Counts(
        calls=10,
        passed=5,
        abstained=2,
        skipped=2,
        failed=1,
        answered=5,
        refused=2,
        suspicious=3,
        clients=1,
        first=None,
        last=None,
    )
    assert counts.voted == 7
