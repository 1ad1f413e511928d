"""The part of the guard's record that clients may see: no texts of samples, no messages of exceptions."""

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
        detail: All of it, or only the verdict.
    """
    if detail == "verdict":
        return {"verdict": record["verdict"]}
    samples = []
    for sample in record.get("samples", ()):
        public = {name: value for name, value in sample.items() if name != "text"}
        if "error" in public:
            public["error"] = str(public["error"]).partition(":")[0]
        samples.append(public)
    return {**record, "samples": samples}


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
