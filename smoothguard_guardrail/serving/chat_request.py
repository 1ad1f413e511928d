"""Requests to `POST /v1/chat/completions`, and how they become messages and arguments for the model."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import Runnable, RunnableBinding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smoothguard_guardrail.errors import SmoothGuardError
from smoothguard_guardrail.serving.errors import ApiError

ROLES = {"system", "developer", "user", "assistant", "tool"}
_MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "tool_call_id"}
_IGNORED_KEYS = {"refusal", "annotations"}
"""Keys that clients send back with earlier answers; the model does not need them."""
_LENGTH_FIELDS = ("max_tokens", "max_new_tokens", "max_output_tokens")
"""Names of the answer length limit in chat models."""

_Zero = Annotated[float, Field(ge=0, le=0)]


class StreamOptions(BaseModel):
    """Options of a stream."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TextFormat(BaseModel):
    """The only response format."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    type: Literal["text"]


class ChatRequest(BaseModel):
    """The body of a request. A parameter that is not listed is an error, it is not ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

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

    # Accepted only at the value that changes nothing.
    n: Literal[1] | None = None
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: _Zero | None = None
    presence_penalty: _Zero | None = None

    # Accepted, without effect on answers.
    user: Any = None
    metadata: Any = None
    store: Any = None
    seed: Any = None
    """Clients must not choose the guard's noise, and one model seed would not fit several samples."""
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None


def parse_request(body: Any) -> ChatRequest:
    """Parse a request body.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        param = str(problem["loc"][0]) if problem["loc"] else None
        if problem["type"] == "extra_forbidden":
            raise ApiError(400, "unsupported_parameter", f"{place[:80]} is not supported", param=param) from None
        code = "unsupported_value" if problem["type"] == "literal_error" else "invalid_request"
        raise ApiError(400, code, f"{place[:80]}: {problem['msg'][:200]}", param=param) from None


def request_messages(request: ChatRequest) -> list[BaseMessage]:
    """Return the request's messages. Their parts stay unchanged, for the guard to check.

    Raises:
        ApiError: If a message is not valid.
    """
    found = []
    for index, message in enumerate(request.messages):
        try:
            found += convert_to_messages([_message(message)])
        except ApiError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
            raise _bad_message(index, "is not a valid chat message") from None
        except _MessageError as error:
            raise _bad_message(index, str(error)) from None
    return found


def model_arguments(request: ChatRequest, model: Runnable[Any, Any]) -> dict[str, Any]:
    """Return the keyword arguments of the model call.

    Args:
        request: The client's request.
        model: The chat model inside the guard.

    Raises:
        ApiError: If the request has tools and the model does not support them.
    """
    arguments: dict[str, Any] = {}
    length = request.max_completion_tokens or request.max_tokens
    if length is not None:
        fields = getattr(type(model), "model_fields", {})
        arguments[next((name for name in _LENGTH_FIELDS if name in fields), _LENGTH_FIELDS[0])] = length
    for name in ("temperature", "top_p"):
        if (value := getattr(request, name)) is not None:
            arguments[name] = value
    if request.stop:
        arguments["stop"] = [request.stop] if isinstance(request.stop, str) else request.stop
    return arguments | _tool_arguments(request, model)


def _tool_arguments(request: ChatRequest, model: Any) -> dict[str, Any]:
    if not request.tools:
        return {}
    options: dict[str, Any] = {} if request.tool_choice is None else {"tool_choice": request.tool_choice}
    if request.parallel_tool_calls is not None:
        options["parallel_tool_calls"] = request.parallel_tool_calls
    try:
        bound = model.bind_tools(request.tools, **options)
    except (NotImplementedError, AttributeError, SmoothGuardError):
        raise ApiError(
            400, "unsupported_parameter", "this model does not support tools, send none", param="tools"
        ) from None
    except (ValueError, TypeError, KeyError):
        raise ApiError(400, "invalid_request", "tools must be a list of OpenAI function tools", param="tools") from None
    if not isinstance(bound, RunnableBinding):
        raise ApiError(400, "unsupported_parameter", "this model does not support tools, send none", param="tools")
    return dict(bound.kwargs)


class _MessageError(Exception):
    """Why a message is not valid."""


def _message(message: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in message.items() if value is not None and key not in _IGNORED_KEYS}
    if unknown := given.keys() - _MESSAGE_KEYS:
        raise _MessageError(f"{min(unknown)[:40]} is not supported")
    if given.get("role") not in ROLES:
        raise _MessageError(f"the role must be one of {', '.join(sorted(ROLES))}")
    content = given.setdefault("content", "")
    is_parts = isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )
    if not isinstance(content, str) and not is_parts:
        raise _MessageError("the content must be text or a list of typed parts")
    for call in given.get("tool_calls", ()):
        json.loads(call["function"]["arguments"])
    return given


def _bad_message(index: int, why: str) -> ApiError:
    return ApiError(400, "invalid_request", f"messages[{index}]: {why}", param="messages")
