"""Parses the body of a request: what is ignored, what is refused, and what a client must not configure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeVar

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ValidationError

from smoothguard_guardrail.config import MediaConfig, MediaLimits, PdfConfig, SmoothGuardConfig
from smoothguard_guardrail.errors import MediaError
from smoothguard_guardrail.media.prepare import prepare
from smoothguard_guardrail.serving.errors import ApiError

B = TypeVar("B", bound=BaseModel)

_GUARD_SETTINGS = {"smoothguard", "config", "configurable", "callbacks", *SmoothGuardConfig.model_fields}
"""Names by which a client could try to configure the guard."""
_MAX_NOTED = 20
_AT_A_GLANCE = MediaConfig(
    limits=MediaLimits(max_pixels=1, max_seconds=0.001, max_video_pixels=1), pdf=PdfConfig(timeout=1)
)
"""Limits that all media exceed: whether something is a medium shows without decoding it."""


def parse_body(body: Any, kind: type[B], *, unsupported: Mapping[str, str], guarded: Set[str]) -> tuple[B, list[str]]:
    """Parse a request body. `null` and empty values mean that a parameter is not given, as typed clients send them.

    Args:
        body: The parsed JSON.
        kind: What it is validated as.
        unsupported: Parameters that would change what the guard guards, and what to do instead.
        guarded: Parameters that become messages, where the guard finds media; all others must hold none.

    Returns:
        The request, and the names of the parameters that the server does not know and ignores.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_request", "the body must be a JSON object")
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    given = {name: value for name, value in body.items() if name in required or not _is_empty(value)}
    unknown = sorted(given.keys() - kind.model_fields.keys())
    for name in unknown:
        if name in _GUARD_SETTINGS:
            message = f"{name} is not supported: clients configure nothing"
            raise ApiError(400, "unsupported_parameter", message, param=name)
        if name in unsupported:
            raise ApiError(400, "unsupported_parameter", unsupported[name], param=name)
    for name in given.keys() - guarded:
        _check_media(name, given[name])
    try:
        request = kind.model_validate({name: value for name, value in given.items() if name in kind.model_fields})
    except ValidationError as error:
        raise _invalid(error) from None
    return request, [name[:80] for name in unknown[:_MAX_NOTED]]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def _check_media(name: str, value: Any) -> None:
    """Refuse a medium that would reach the model past the guard, or be lost silently."""
    call = {"name": "", "args": {name: value}, "id": None}
    try:
        is_medium = bool(prepare([AIMessage("", tool_calls=[call])], _AT_A_GLANCE).media)
    except MediaError:
        is_medium = True  # or what the guard could not look into
    if is_medium:
        message = f"{name[:40]} must hold no medium, since the guard would not see it: send media in messages"
        raise ApiError(400, "unsupported_parameter", message, param=name)


def _invalid(error: ValidationError) -> ApiError:
    problem = error.errors()[0]
    place = ".".join(map(str, problem["loc"]))
    param = str(problem["loc"][0]) if problem["loc"] else None
    code = "unsupported_value" if problem["type"] == "literal_error" else "invalid_request"
    return ApiError(400, code, f"{place[:80]}: {problem['msg'].removeprefix('Value error, ')[:200]}", param=param)
