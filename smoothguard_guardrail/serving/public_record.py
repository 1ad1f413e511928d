"""The part of the guard's record that clients may see: the verdict, or all but texts of samples and of exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import BaseMessage

KEY = "smoothguard"
_PUBLIC_METADATA = ("model_name", "finish_reason", "stop_reason")


def public_record(record: Mapping[str, Any], detail: Literal["full", "verdict"]) -> dict[str, Any]:
    """Return the part of a record that clients may see.

    Args:
        record: From `GuardResult.to_metadata`.
        detail: Only the verdict and the action, or all of it. Agreement and clusters are a score that an attacker by
            trial and error can climb.
    """
    if detail == "verdict":
        return {name: record[name] for name in ("verdict", "action")}
    samples = []
    for sample in record.get("samples", ()):
        public = {name: value for name, value in sample.items() if name != "text"}
        if "error" in public:
            public["error"] = str(public["error"]).partition(":")[0]
        samples.append(public)
    return {**record, "samples": samples}


def verdict_headers(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the response headers that hold the verdict, for clients that keep no fields of the body."""
    return {f"x-smoothguard-{name}": str(record[name]) for name in ("verdict", "action")}


def fingerprint_of(record: Mapping[str, Any]) -> str:
    """Return the verdict as a `system_fingerprint`, the only string that LangChain's `ChatOpenAI` keeps by default.

    Example:
        >>> fingerprint_of({"verdict": "passed", "action": "answered"})
        'smoothguard:passed:answered'
    """
    return f"{KEY}:{record['verdict']}:{record['action']}"


def public_output(value: Any, detail: Literal["full", "verdict"]) -> Any:
    """Return a chain's output with the metadata of every message reduced to what clients may see."""
    if isinstance(value, BaseMessage):
        metadata = {name: value.response_metadata[name] for name in _PUBLIC_METADATA if name in value.response_metadata}
        if record := value.response_metadata.get(KEY):
            metadata[KEY] = public_record(record, detail)
        return value.model_copy(update={"response_metadata": metadata})
    if isinstance(value, dict):
        return {name: public_output(each, detail) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_output(each, detail) for each in value]
    return value
