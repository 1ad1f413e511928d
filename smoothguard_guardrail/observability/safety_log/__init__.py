"""The safety log: one JSON object per guarded call; its schema, how it is written, read and summed up."""

from smoothguard_guardrail.observability.safety_log.lines import (
    SCHEMA_VERSION,
    FailureLine,
    Line,
    VerdictLine,
    json_schema,
)
from smoothguard_guardrail.observability.safety_log.reader import SkippedLines, read_log
from smoothguard_guardrail.observability.safety_log.sinks import FileSink, LoggingSink, Sink
from smoothguard_guardrail.observability.safety_log.summary import Summary, suspicions

__all__ = [
    "SCHEMA_VERSION",
    "FailureLine",
    "FileSink",
    "Line",
    "LoggingSink",
    "Sink",
    "SkippedLines",
    "Summary",
    "VerdictLine",
    "json_schema",
    "read_log",
    "suspicions",
]
