"""The figures of a safety log as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail._internal.times import duration_text, time_text
from smoothguard_guardrail.cli.failures import printable

if TYPE_CHECKING:
    from collections import Counter

    from smoothguard_guardrail.observability.safety_log.lines import VerdictLine
    from smoothguard_guardrail.observability.safety_log.reader import SkippedLines
    from smoothguard_guardrail.observability.safety_log.summary import Summary

_MAX_REPEATED = 10


def report_lines(summary: Summary, skipped: SkippedLines) -> list[str]:
    """Return the lines to print."""
    parts = (_overview, _rates, _suspicious, _repeated) if summary.calls else ()
    lines = [printable(line) for part in parts for line in part(summary)] or ["no guarded calls"]
    return [*lines, *skipped.texts()]


def _overview(summary: Summary) -> list[str]:
    from smoothguard_guardrail.observability.safety_log.filters import VERDICTS

    lines = [f"{_number(summary.calls, 'guarded call')}, {time_text(summary.first)} to {time_text(summary.last)} UTC"]
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
    from smoothguard_guardrail.observability.safety_log.filters import VERDICTS

    step, periods = summary.rates()
    title = f"per {duration_text(step)} (UTC)"
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


def _repeated(summary: Summary) -> list[str]:
    repeated = summary.repeated_media
    if not repeated:
        return []
    lines = [f"  {sha256}  {count:,} suspicious calls" for sha256, count in list(repeated.items())[:_MAX_REPEATED]]
    return ["", f"{_number(len(repeated), 'hash', 'hashes')} in more than one suspicious call:", *lines]


def _call(line: VerdictLine, summary: Summary) -> str:
    from smoothguard_guardrail.observability.safety_log.summary import suspicions

    reasons = ", ".join(suspicions(line, low_agreement=summary.low_agreement))
    sizes = "+".join(str(cluster.size) for cluster in line.clusters)
    media = " ".join(f"{medium.kind}:{(medium.sha256 or '?')[:12]}" for medium in line.media)
    return (
        f"  {time_text(line.time)}  agreement {line.agreement:.2f} ({sizes})  {reasons}  run {line.run_id}"
        + (f"  {media}" if media else "")
        + (f"  tags {','.join(line.tags)}" if line.tags else "")
    )


def _quantiles(values: dict[float, float]) -> str:
    names = {0.0: "least", 0.5: "median", 1.0: "most"}
    return "  ".join(f"{names.get(share, f'{share:.0%}')} {value:.2f}" for share, value in values.items())


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common(5))


def _number(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
