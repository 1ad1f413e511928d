"""The safety log as a format: one JSON object per line, its schema, appending and reading."""

from smoothguard_guardrail.observability.safety_log.lines import (
    SCHEMA_VERSION,
    FailureLine,
    Line,
    VerdictLine,
    json_schema,
)
from smoothguard_guardrail.observability.safety_log.reader import Reading, read_log
from smoothguard_guardrail.observability.safety_log.sinks import FileSink, LoggingSink, Sink
from smoothguard_guardrail.observability.safety_log.summary import Summary, suspicions

__all__ = [
    "SCHEMA_VERSION",
    "FailureLine",
    "FileSink",
    "Line",
    "LoggingSink",
    "Reading",
    "Sink",
    "Summary",
    "VerdictLine",
    "json_schema",
    "read_log",
    "suspicions",
]
