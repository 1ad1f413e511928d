"""What leaves the server of what the guard recorded: no texts of samples, no messages of exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langchain_core.messages import BaseMessage

KEY = "smoothguard"
_KEPT = ("model_name", "finish_reason", "stop_reason")


def public_record(record: Mapping[str, Any], how: Literal["full", "verdict"]) -> dict[str, Any]:
    """Return what clients may know of a record.

    Args:
        record: As `GuardResult.to_metadata` gives it.
        how: All of it, or the verdict alone.
    """
    if how == "verdict":
        return {"verdict": record["verdict"]}
    samples = []
    for sample in record.get("samples", ()):
        public = {name: value for name, value in sample.items() if name != "text"}
        if "error" in public:
            public["error"] = str(public["error"]).partition(":")[0]
        samples.append(public)
    return {**record, "samples": samples}


def public_output(value: Any, how: Literal["full", "verdict"]) -> Any:
    """Return a chain's output with every message's metadata reduced to what clients may know."""
    if isinstance(value, BaseMessage):
        metadata = {name: value.response_metadata[name] for name in _KEPT if name in value.response_metadata}
        if record := value.response_metadata.get(KEY):
            metadata[KEY] = public_record(record, how)
        return value.model_copy(update={"response_metadata": metadata})
    if isinstance(value, dict):
        return {name: public_output(each, how) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public_output(each, how) for each in value]
    return value
