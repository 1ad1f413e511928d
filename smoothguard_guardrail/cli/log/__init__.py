"""`smoothguard log`: sums up safety logs, as text, JSON or an HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smoothguard_guardrail._internal.times import TIME_HELP, parse_time
from smoothguard_guardrail.cli.failures import exit_codes, printable
from smoothguard_guardrail.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smoothguard_guardrail.observability.safety_log.filters import LineFilter


def log(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Safety logs, also rotated and .gz files; - for stdin.")
    ],
    since: Annotated[str | None, typer.Option(help=f"Only calls since then: {TIME_HELP}")] = None,
    until: Annotated[str | None, typer.Option(help="Only calls before then, written as for --since.")] = None,
    verdict: Annotated[
        Literal["passed", "abstained", "skipped", "failed"] | None, typer.Option(help="Only calls with this verdict.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only calls with this tag.")] = None,
    client: Annotated[str | None, typer.Option(help="Only calls of this client, as the server named it.")] = None,
    call: Annotated[str | None, typer.Option("--id", help="Only the call with this id; its whole record.")] = None,
    low_agreement: Annotated[float, typer.Option(help="Agreement below which a call is suspicious.")] = 0.6,
    limit: Annotated[int, typer.Option(min=0, help="Number of suspicious calls to show, the latest ones.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--html", dir_okay=False, help="Write one HTML page with charts and tables to this file."),
    ] = None,
) -> None:
    """Sum up safety logs: verdicts, agreement, failures, rates over time, and the suspicious calls.

    Damaged lines are counted and skipped. Rotated files next to FILE are named on stderr and only read if given.

    Example: smoothguard log safety.jsonl --since 24h --html log.html
    """
    with exit_codes():
        if as_json and page is not None:
            raise InputError("expected --json or --html, not both")
        from smoothguard_guardrail.observability.safety_log.filters import LineFilter

        chosen = LineFilter(
            since=parse_time("--since", since),
            until=parse_time("--until", until),
            verdict=verdict,
            tag=tag,
            client=client,
            id=call,
        )
        try:
            if page is not None:
                _write_page(page, files, chosen, low_agreement=low_agreement, limit=limit)
            elif call is not None:
                _print_call(files, chosen)
            else:
                _print_summary(files, chosen, low_agreement=low_agreement, limit=limit, as_json=as_json)
        except (OSError, EOFError) as error:
            raise InputError(str(error)) from error
        _warn_about_rotated_files(files)


def _print_summary(
    files: Sequence[Path], chosen: LineFilter, *, low_agreement: float, limit: int, as_json: bool
) -> None:
    from smoothguard_guardrail.cli.log.text import report_lines
    from smoothguard_guardrail.observability.safety_log.reader import SkippedLines, read_log
    from smoothguard_guardrail.observability.safety_log.summary import Summary

    skipped, summary = SkippedLines(), Summary(low_agreement=low_agreement, max_suspicious=limit)
    for line in read_log(files, skipped):
        if chosen.matches(line):
            summary.add(line)
    if as_json:
        unread = {"damaged_lines": skipped.damaged, "lines_of_other_versions": skipped.other_version}
        typer.echo(json.dumps(summary.to_json() | unread, ensure_ascii=False, indent=2))
        return
    for text in report_lines(summary, skipped):
        typer.echo(text)


def _print_call(files: Sequence[Path], chosen: LineFilter) -> None:
    from smoothguard_guardrail.observability.safety_log.reader import SkippedLines, read_log

    found = next((line for line in read_log(files, SkippedLines()) if chosen.matches(line)), None)
    if found is None:
        raise InputError(f"the log has no such call: {chosen.id}")
    record = found.model_dump(mode="json", exclude_none=True)
    typer.echo(printable(json.dumps(record, ensure_ascii=False, indent=2)))


def _write_page(page: Path, files: Sequence[Path], chosen: LineFilter, *, low_agreement: float, limit: int) -> None:
    from smoothguard_guardrail._internal.files import write_atomic
    from smoothguard_guardrail.inspector.log_page import log_page

    html, num_calls = log_page(files, chosen, low_agreement=low_agreement, limit=limit)
    write_atomic(page, html)
    typer.echo(f"{num_calls:,} guarded calls: {page}")


def _warn_about_rotated_files(files: Sequence[Path]) -> None:
    from smoothguard_guardrail.observability.safety_log.reader import rotated_files

    given = {file.absolute() for file in files}
    found = [path for file in files for path in rotated_files(file) if path.absolute() not in given]
    if found:
        typer.echo(f"smoothguard: rotated files were not read: {' '.join(map(str, found))}", err=True)
