"""`smoothguard log`: sums up safety logs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from smoothguard_guardrail.cli.failures import exit_codes
from smoothguard_guardrail.errors import InputError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from smoothguard_guardrail.observability.safety_log.lines import VerdictLine
    from smoothguard_guardrail.observability.safety_log.reader import SkippedLines
    from smoothguard_guardrail.observability.safety_log.summary import Summary

_SINCE_HELP = "Only calls since then: `2026-11-24`, `2026-11-24T07:00` (UTC without an offset), or `30m`, `24h`, `7d`."
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def log(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Safety logs, also rotated and .gz files; - for stdin.")
    ],
    since: Annotated[str | None, typer.Option(help=_SINCE_HELP)] = None,
    verdict: Annotated[
        Literal["passed", "abstained", "skipped", "failed"] | None, typer.Option(help="Only calls with this verdict.")
    ] = None,
    low_agreement: Annotated[float, typer.Option(help="Agreement below which a call is suspicious.")] = 0.6,
    limit: Annotated[int, typer.Option(min=0, help="Number of suspicious calls to show, the latest ones.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Sum up safety logs: verdicts, agreement, failures, rates over time, and the suspicious calls.

    Damaged lines are counted and skipped. Rotated files next to FILE are named on stderr and only read if given.
    """
    with exit_codes():
        from smoothguard_guardrail.observability.safety_log.reader import SkippedLines, read_log
        from smoothguard_guardrail.observability.safety_log.summary import Summary, verdict_of

        start = _parse_time(since) if since else None
        skipped, summary = SkippedLines(), Summary(low_agreement=low_agreement, max_suspicious=limit)
        try:
            for line in read_log(files, skipped):
                if (start is None or line.time >= start) and verdict in (None, verdict_of(line)):
                    summary.add(line)
        except (OSError, EOFError) as error:
            raise InputError(str(error)) from error
        _warn_about_rotated_files(files)
        if as_json:
            unread = {"damaged_lines": skipped.damaged, "lines_of_other_versions": skipped.other_version}
            typer.echo(json.dumps(summary.to_json() | unread, ensure_ascii=False, indent=2))
        else:
            for text in _report(summary, skipped):
                typer.echo(text)


def _parse_time(text: str) -> datetime:
    from datetime import UTC, datetime, timedelta

    try:
        if match := re.fullmatch(r"(\d+)([smhdw])", text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise InputError(
            f"--since must be a time such as 2026-11-24, 2026-11-24T07:00, 30m, 24h or 7d, got {text!r}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _warn_about_rotated_files(files: Sequence[Path]) -> None:
    from smoothguard_guardrail.observability.safety_log.reader import rotated_files

    given = {file.absolute() for file in files}
    found = [path for file in files for path in rotated_files(file) if path.absolute() not in given]
    if found:
        typer.echo(f"smoothguard: rotated files were not read: {' '.join(map(str, found))}", err=True)


def _report(summary: Summary, skipped: SkippedLines) -> list[str]:
    lines = [*_overview(summary), *_rates(summary), *_suspicious(summary)] if summary.calls else ["no guarded calls"]
    if skipped.damaged:
        lines.append(f"damaged lines skipped: {skipped.damaged}")
    if skipped.other_version:
        lines.append(f"lines of another schema version skipped: {skipped.other_version}")
    return lines


def _overview(summary: Summary) -> list[str]:
    from smoothguard_guardrail.observability.safety_log.summary import VERDICTS

    lines = [f"{_number(summary.calls, 'guarded call')}, {_time(summary.first)} to {_time(summary.last)} UTC"]
    for verdict in VERDICTS:
        count = summary.verdicts[verdict]
        kinds = f"   {_counted(summary.failures)}" if verdict == "failed" and count else ""
        lines.append(f"  {verdict:<10}{count:>9,}{count / summary.calls:>8.1%}{kinds}")
    if summary.settings:
        lines.append(f"settings     {_counted(summary.settings)}")
    if agreement := summary.agreement:
        lines.append(f"agreement    {_quantiles(agreement)}")
    if seconds := summary.seconds:
        lines.append(f"seconds      {_quantiles(seconds)}")
    failed = summary.failed_model_calls
    lines.append(
        f"model calls  {summary.model_calls:,}, {summary.model_calls / summary.calls:.1f} per guarded call"
        + (f"; {failed.total():,} failed: {_counted(failed)}" if failed else "")
    )
    if summary.tokens:
        lines.append(f"tokens       {summary.tokens:,}")
    return lines


def _rates(summary: Summary) -> list[str]:
    from smoothguard_guardrail.observability.safety_log.summary import VERDICTS

    step, periods = summary.rates()
    title = f"per {_duration(step)} (UTC)"
    lines = ["", f"{title:<18}{'calls':>8}" + "".join(f"{verdict:>11}" for verdict in VERDICTS)]
    for start, counts in periods:
        shares = "".join(f"{counts[verdict]:>11,}" for verdict in VERDICTS)
        lines.append(f"{start:%Y-%m-%d %H:%M}  {counts.total():>8,}{shares}")
    return lines


def _suspicious(summary: Summary) -> list[str]:
    if not summary.num_suspicious:
        low = f"agreement below {summary.low_agreement:g}"
        return ["", f"no suspicious calls (abstained, clean copy overruled, {low}, suspicion above its threshold)"]
    shown = summary.suspicious
    more = f", the latest {len(shown)}" if len(shown) < summary.num_suspicious else ""
    return [
        "",
        f"{_number(summary.num_suspicious, 'suspicious call')}{more}:",
        *(_call(line, summary) for line in shown),
    ]


def _call(line: VerdictLine, summary: Summary) -> str:
    from smoothguard_guardrail.observability.safety_log.summary import suspicions

    reasons = ", ".join(suspicions(line, low_agreement=summary.low_agreement))
    sizes = "+".join(str(cluster.size) for cluster in line.clusters)
    media = " ".join(f"{medium.kind}:{(medium.sha256 or '?')[:12]}" for medium in line.media)
    return (
        f"  {_time(line.time)}  agreement {line.agreement:.2f} ({sizes})  {reasons}  run {line.run_id}"
        + (f"  {media}" if media else "")
        + (f"  tags {','.join(line.tags)}" if line.tags else "")
    )


def _quantiles(values: dict[float, float]) -> str:
    names = {0.0: "least", 0.5: "median", 1.0: "most"}
    return "  ".join(f"{names.get(share, f'{share:.0%}')} {value:.2f}" for share, value in values.items())


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common(5))


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _time(moment: datetime | None) -> str:
    from datetime import UTC

    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if moment else "?"


def _duration(step: timedelta) -> str:
    minutes = round(step.total_seconds() / 60)
    for size, name in ((24 * 60, "d"), (60, "h")):
        if minutes % size == 0:
            return f"{minutes // size} {name}"
    return f"{minutes} min"
