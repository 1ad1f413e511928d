"""Reads the JSON of a request's body."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.json_text import make_readable

MAX_CONTAINERS = 50_000
"""Objects and arrays in a body: hundreds of thousands of tiny parts would cost seconds before a vote."""


async def read_json(request: Request) -> Any:
    """Return the JSON of the body, with U+FFFD for lone surrogates. It is cached, so later readers get it too.

    Raises:
        ApiError: If the body is not JSON, or holds too many parts.
    """
    try:
        return make_readable(await request.json(), MAX_CONTAINERS)
    except (ValueError, RecursionError):
        raise ApiError(400, "invalid_request", "the body must be JSON that is not nested too deeply") from None
    except OverflowError:
        reason = f"the body must hold at most {MAX_CONTAINERS:,} objects and arrays; send fewer parts"
        raise ApiError(413, "body_too_large", reason) from None
