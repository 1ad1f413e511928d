"""Errors in Anthropic's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.serving.json_text import SafeJSONResponse

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse

    from smoothguard_guardrail.serving.errors import ApiError

PATH = "/v1/messages"
"""Below it, all errors have Anthropic's format, the gate's included."""

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OVERLOADED = 529
"""Anthropic's status of a server with too many requests; 429 there means that one client sends too many."""


def response_of(error: ApiError, request_id: str) -> JSONResponse:
    """Return the HTTP response for an error."""
    status = _OVERLOADED if error.code == "overloaded" else error.status
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": request_id}
    record = {"smoothguard": error.record} if error.record else {}
    return SafeJSONResponse(body | record, status, error.headers)
