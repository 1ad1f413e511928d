"""JSON that any client can read, whatever a model wrote or a client sent."""

from __future__ import annotations

import json
import math
from typing import Any

from fastapi.responses import JSONResponse
from langchain_core.messages import BaseMessage

_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}


class SafeJSONResponse(JSONResponse):
    """A JSON response that cannot fail: see `readable`."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json_text(content).encode()


def json_text(data: Any) -> str:
    """Return data as JSON in valid Unicode, and in one line also for readers that split at Unicode's line ends."""
    text = json.dumps(readable(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.translate(_LINE_ENDS)


def readable(data: Any) -> Any:
    """Return a copy of data with U+FFFD for lone surrogates, which UTF-8 cannot hold, and None for NaN and infinity."""
    if isinstance(data, str):
        return readable_text(data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, dict):
        return {readable(key): readable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [readable(each) for each in data]
    if isinstance(data, BaseMessage):
        return data.model_copy(update={name: readable(value) for name, value in data if value is not None})
    return data


def readable_text(text: str) -> str:
    """Return a text with its surrogate pairs joined and U+FFFD for lone surrogates."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def make_readable(data: Any, max_containers: int) -> Any:
    """Replace lone surrogates in parsed JSON, in place and however deep it is nested; return it.

    Raises:
        OverflowError: It holds more objects and arrays.
    """
    whole = [data]
    waiting: list[Any] = [whole]
    remaining = max_containers + 1
    while waiting:
        container = waiting.pop()
        remaining -= 1
        if remaining < 0:
            raise OverflowError
        if isinstance(container, dict):
            for key in [key for key in container if readable_text(key) != key]:
                container[readable_text(key)] = container.pop(key)
        items = list(container.items() if isinstance(container, dict) else enumerate(container))
        for key, value in items:
            if isinstance(value, str):
                container[key] = readable_text(value)
            elif isinstance(value, dict | list):
                waiting.append(value)
    return whole[0]
