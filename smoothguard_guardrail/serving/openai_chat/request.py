"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.model_parameters import ModelParameters
from smoothguard_guardrail.serving.request_body import parse_body

_UNSUPPORTED = {
    "functions": "functions are not supported, send tools",
    "function_call": "function_call is not supported, send tool_choice",
    "top_logprobs": "log probabilities belong to one sample, not to the vote, ask for none",
    "web_search_options": "web search is not guarded, send none",
}
"""Parameters that would change what the guard guards, and what to do instead."""
_ELSEWHERE = {
    *("input", "prompt", "system", "instructions", "documents", "files", "attachments"),
    *("images", "audios", "videos"),
}
"""Names under which other APIs take what the model should read."""
_NEUTRAL = {"top_logprobs": (0,), "function_call": ("none", "auto")}
"""Values at which an unsupported parameter changes nothing."""


class StreamOptions(BaseModel):
    """Options of a stream. Others are ignored."""

    include_usage: bool | None = None


class ChatRequest(ModelParameters):
    """A request."""

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Accepted only at the value that changes nothing.
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None

    # Accepted, without effect on answers.
    user: Any = None
    metadata: Any = None
    store: Any = None
    seed: Any = None
    """Clients must not choose the guard's noise, and one model seed would not fit several samples."""
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prediction: Any = None


def parse_request(body: Any) -> tuple[ChatRequest, list[str]]:
    """Parse a request body.

    Returns:
        The request, and the names of the parameters that the server does not know and ignores.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    given = body.items() if isinstance(body, dict) else ()
    neutral = {name for name, value in given if name in _NEUTRAL and value in _NEUTRAL[name]}
    unsupported = {name: why for name, why in _UNSUPPORTED.items() if name not in neutral}
    unsupported |= {name: f"{name} is not supported: the model reads the conversation only" for name in _ELSEWHERE}
    request, ignored = parse_body(body, ChatRequest, unsupported=unsupported, guarded={"messages"})
    if request.is_spoken != (request.audio is not None):
        missing = "audio" if request.is_spoken else "modalities"
        message = "a spoken answer needs modalities with audio, and audio with a voice and a format"
        raise ApiError(400, "invalid_request", message, param=missing)
    return request, ignored
