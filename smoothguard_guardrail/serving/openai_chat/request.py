"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from langchain_core.messages import AIMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.errors import UnsupportedMediaError
from smoothguard_guardrail.media.scan import scan
from smoothguard_guardrail.serving.errors import ApiError

_REQUIRED = {"model", "messages"}
_GUARD_SETTINGS = {"smoothguard", "config", "configurable", "callbacks", *SmoothGuardConfig.model_fields}
"""Names by which a client could try to configure the guard."""
_UNSUPPORTED = {
    "functions": "functions are not supported, send tools",
    "function_call": "function_call is not supported, send tool_choice",
    "top_logprobs": "log probabilities belong to one sample, not to the vote, ask for none",
    "web_search_options": "web search is not guarded, send none",
}
"""Parameters that would change what the guard guards, and what to do instead."""
_CONTENT = {
    *("input", "prompt", "system", "instructions", "documents", "files", "attachments"),
    *("images", "audios", "videos"),
}
"""Names under which other APIs take what the model should read."""
_MAX_NOTED = 20


class StreamOptions(BaseModel):
    """Options of a stream. Others are ignored."""

    include_usage: bool | None = None


class ResponseFormat(BaseModel):
    """The format that the answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and not isinstance((self.json_schema or {}).get("schema"), dict):
            raise ValueError("json_schema must be an object with a name and a schema")
        return self


class AudioFormat(BaseModel):
    """The voice and the format of a spoken answer."""

    voice: str | dict[str, Any]
    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]


class ChatRequest(BaseModel):
    """A request. `null` and empty values mean that a parameter is not given, as typed clients send them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Passed on to the model.
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, gt=0)
    max_completion_tokens: int | None = Field(None, gt=0)
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: AudioFormat | None = None

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

    @property
    def is_spoken(self) -> bool:
        """Whether the answer should be audio."""
        return "audio" in (self.modalities or ())


def parse_request(body: Any) -> tuple[ChatRequest, list[str]]:
    """Parse a request body.

    Returns:
        The request, and the names of the parameters that the server does not know and ignores.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_request", "the body must be a JSON object")
    given = {name: value for name, value in body.items() if name in _REQUIRED or not _is_empty(value)}
    unknown = sorted(given.keys() - ChatRequest.model_fields.keys())
    for name in unknown:
        _check_unknown(name, given[name])
    _check_media(given)
    for name in unknown:
        del given[name]
    try:
        request = ChatRequest.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        param = str(problem["loc"][0]) if problem["loc"] else None
        code = "unsupported_value" if problem["type"] == "literal_error" else "invalid_request"
        raise ApiError(400, code, f"{place[:80]}: {problem['msg'][:200]}", param=param) from None
    if request.is_spoken != (request.audio is not None):
        missing = "audio" if request.is_spoken else "modalities"
        raise ApiError(
            400, "invalid_request", "a spoken answer needs modalities with audio, and audio with a voice", param=missing
        )
    return request, [name[:80] for name in unknown[:_MAX_NOTED]]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def _check_unknown(name: str, value: Any) -> None:
    """Reject what would change the guarded answer, or asks to configure the guard."""
    if name in _GUARD_SETTINGS:
        raise ApiError(400, "unsupported_parameter", f"{name} is not supported: clients configure nothing", param=name)
    if name in _CONTENT:
        message = f"{name} is not supported: the model reads the conversation only"
        raise ApiError(400, "unsupported_parameter", message, param=name)
    is_neutral = (name == "top_logprobs" and value == 0) or (name == "function_call" and value in ("none", "auto"))
    if name in _UNSUPPORTED and not is_neutral:
        raise ApiError(400, "unsupported_parameter", _UNSUPPORTED[name], param=name)


def _check_media(given: dict[str, Any]) -> None:
    """Reject media outside of messages: the guard would not see them, or they would be lost silently."""
    for name, value in given.items():
        if name != "messages" and _holds_media(value):
            message = f"{name[:40]} holds a medium: the guard takes media in the conversation only"
            raise ApiError(400, "unsupported_parameter", message, param=name[:80])


def _holds_media(value: Any) -> bool:
    try:
        return bool(scan([AIMessage("", tool_calls=[{"name": "", "args": {"value": value}, "id": None}])]))
    except UnsupportedMediaError:  # nested too deeply to be looked into
        return True
