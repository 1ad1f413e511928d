"""Reads the JSON of a request's body."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.json_text import make_readable


async def read_json(request: Request) -> Any:
    """Return the JSON of the body, with U+FFFD for lone surrogates. It is cached, so later readers get it too.

    Raises:
        ApiError: If the body is not JSON.
    """
    try:
        return make_readable(await request.json())
    except (ValueError, RecursionError):
        raise ApiError(400, "invalid_request", "the body must be JSON that is not nested too deeply") from None
