"""Errors for clients: a status and a JSON body without internals. The gate renders them, in the format of each door.

| What happened | Status | `code` |
|---|---|---|
| the body or a parameter is not valid | 400 | `invalid_request`, `unsupported_parameter` |
| a medium cannot be guarded (`MediaError`) | 400 | `media_error` |
| no API key, or a wrong one | 401 | `invalid_api_key` |
| no such model | 404 | `model_not_found` |
| the body took too long to arrive | 408 | `body_timeout` |
| the body is over the limit | 413 | `body_too_large` |
| the answers disagree and `on_abstain="raise"` | 422 | `abstained` |
| too many requests at once | 429 | `overloaded` |
| too few samples answered (`QuorumError`), or the model failed | 502 | `upstream_error` |
| the request took too long | 504 | `timeout` |
| anything else | 500 | `internal_error` |
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

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
from smoothguard_guardrail.serving.json_text import SafeJSONResponse

_OBJECT = re.compile(r"<[^<>]*\bat 0x[0-9a-fA-F]+[^<>]*>|\b0x[0-9a-fA-F]{6,}\b")
_MAX_MESSAGE = 500
_STATUS_CODES = {401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


ABSTAINED = "the answers disagree; ask in another way or send another medium"
"""What clients learn of an abstention: the agreement would help attackers by trial and error."""


class ApiError(Exception):
    """A failure as clients see it.

    Args:
        status: HTTP status.
        code: One word for programs.
        message: One sentence for people, without internals.
        param: The request parameter that caused it.
        headers: Headers of the response.
        record: The guard's record, if it decided against an answer.
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

    @property
    def message(self) -> str:
        """The sentence for people, without the address of an object."""
        return _OBJECT.sub("(object)", str(self))

    def body(self) -> dict[str, Any]:
        """Return the JSON body in OpenAI's format."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error} | ({"smoothguard": self.record} if self.record else {})

    def response(self) -> JSONResponse:
        """Return the HTTP response in OpenAI's format."""
        return SafeJSONResponse(self.body(), self.status, self.headers)


class UpstreamError(Exception):
    """The model failed on a request without a vote; its exception is the cause."""


def is_model_error(error: Exception) -> bool:
    """Return whether the model caused a guarded call's failure: the guard's own errors have their own types."""
    return not isinstance(error, SmoothGuardError | ApiError | TimeoutError)


def to_api_error(error: Exception) -> ApiError:
    """Return what clients may see of an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MediaFetchError):
        # The reason of a failed fetch could reveal names and addresses inside the server's network.
        return ApiError(
            400, "media_error", f"{error.path}: the URL is not allowed or cannot be fetched; send the bytes instead"
        )
    if isinstance(error, MediaError):
        return ApiError(400, "media_error", public_text(error))
    if isinstance(error, InputError):
        return ApiError(400, "invalid_request", public_text(error))
    if isinstance(error, AbstainedError):
        return ApiError(422, "abstained", ABSTAINED)
    if isinstance(error, QuorumError):
        message = f"the model must answer at least {error.required} calls, it answered {error.successes}; try again"
        return ApiError(502, "upstream_error", message)
    if isinstance(error, UpstreamError):
        return ApiError(502, "upstream_error", "the model failed; try again")
    if isinstance(error, TimeoutError):
        return ApiError(504, "timeout", "the request took too long; try again or ask for less")
    return ApiError(500, "internal_error", "internal error")


def public_text(error: Exception) -> str:
    """Return the message of one of our errors without what a library said, and without the `repr` of an object.

    Example:
        >>> public_text(ValueError("the image cannot be decoded: bad <_io.BytesIO object at 0x7f1ed42c6250>"))
        'the image cannot be decoded: bad (object)'
    """
    text = str(error)
    cause = error.__cause__
    while cause is not None:
        if not type(cause).__module__.startswith("smoothguard_guardrail") and len(str(cause)) > 3:
            text = text.replace(str(cause), "").rstrip(" :;,(")
        cause = cause.__cause__
    if isinstance(error, MediaError) and text == error.path:
        text = f"{text}: the medium cannot be read"
    return _OBJECT.sub("(object)", text)[:_MAX_MESSAGE] or "the request cannot be read"


def convert_framework_errors(app: FastAPI) -> None:
    """Turn the errors that FastAPI raises itself into `ApiError`s, for the gate to render."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> NoReturn:
        code = _STATUS_CODES.get(error.status_code, "invalid_request")
        raise ApiError(error.status_code, code, str(error.detail), headers=dict(error.headers or {}) or None) from error

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> NoReturn:
        raise ApiError(422, "invalid_request", describe_problems(error.errors())) from error


def describe_problems(errors: Any) -> str:
    """Return pydantic's errors in one line, without the input, which may be an image."""
    found = [
        f"{'.'.join(map(str, error.get('loc', ())))}: {error.get('msg', 'invalid')}"
        if isinstance(error, dict)
        else str(error)
        for error in errors
    ]
    return "; ".join(text[:200] for text in found[:5])
