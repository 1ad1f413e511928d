"""What clients are told when something fails: a status and a JSON body in OpenAI's shape, without internals.

| What happened | Status | `code` |
|---|---|---|
| the body or a parameter is not understood | 400 | `invalid_request`, `unsupported_parameter` |
| a medium cannot be guarded (`MediaError`) | 400 | `media_error` |
| no API key, or a wrong one | 401 | `invalid_api_key` |
| no such model | 404 | `model_not_found` |
| the body is over the limit | 413 | `body_too_large` |
| the answers disagree and `on_abstain="raise"` | 422 | `abstained` |
| too many requests at once | 429 | `overloaded` |
| too few samples answered (`QuorumError`), or the model failed | 502 | `upstream_error` |
| it took too long | 504 | `timeout` |
| anything else | 500 | `internal_error` |
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from smoothguard_guardrail.errors import (
    AbstainedError,
    InputError,
    MediaError,
    MediaFetchError,
    QuorumError,
    SmoothGuardError,
)

_STATUS_CODES = {401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class ApiError(Exception):
    """A failure as clients see it.

    Args:
        status: HTTP status.
        code: One word for programs.
        message: One sentence for people, without internals.
        param: The parameter of the request that is at fault.
        headers: Of the response.
        record: What the guard saw, when it decided against an answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        record: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = headers
        self.record = record

    def response(self) -> JSONResponse:
        """Return the response that tells it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        body = {"error": error} | ({"smoothguard": self.record} if self.record else {})
        return JSONResponse(body, self.status, self.headers)


class UpstreamError(Exception):
    """The model failed on a request that needs no vote; the cause is its own exception."""


def is_of_the_model(error: Exception) -> bool:
    """Whether a guarded call failed for its model's sake: the guard's own failures have types of their own."""
    return not isinstance(error, SmoothGuardError | ApiError | TimeoutError)


def api_error(error: Exception) -> ApiError:
    """Return what clients are told of an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MediaFetchError):
        # Why a fetch failed would tell of names and addresses inside the server's network.
        return ApiError(400, "media_error", f"{error.path}: the reference is not followed or cannot be; send the bytes")
    if isinstance(error, MediaError):
        return ApiError(400, "media_error", str(error))
    if isinstance(error, InputError):
        return ApiError(400, "invalid_request", str(error))
    if isinstance(error, AbstainedError):
        return ApiError(422, "abstained", str(error))
    if isinstance(error, QuorumError):
        told = f"too few answers from the model: {error.successes}, and {error.required} are needed"
        return ApiError(502, "upstream_error", told)
    if isinstance(error, UpstreamError):
        return ApiError(502, "upstream_error", "the model failed")
    if isinstance(error, TimeoutError):
        return ApiError(504, "timeout", "the answer took too long")
    return ApiError(500, "internal_error", "internal error")


def handle_framework_errors(app: FastAPI) -> None:
    """Give the errors that FastAPI makes itself the shape of ours."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = _STATUS_CODES.get(error.status_code, "invalid_request")
        headers = dict(error.headers or {}) or None
        return ApiError(error.status_code, code, str(error.detail), headers=headers).response()

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(422, "invalid_request", problems(error.errors())).response()


def problems(errors: Any) -> str:
    """Return pydantic's errors in one line, without what was sent, which may be a picture."""
    found = [
        f"{'.'.join(map(str, error.get('loc', ())))}: {error.get('msg', 'invalid')}"
        if isinstance(error, dict)
        else str(error)
        for error in errors
    ]
    return "; ".join(text[:200] for text in found[:5])
