"""The body of `POST /v1/responses`, which becomes the request for a chat completion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from smoothguard_guardrail.errors import InputError, MediaError
from smoothguard_guardrail.serving.errors import ApiError, to_api_error
from smoothguard_guardrail.serving.openai_chat.messages import may_hold_content
from smoothguard_guardrail.serving.openai_chat.request import ChatRequest, parse_request
from smoothguard_guardrail.serving.openai_responses.input_items import SEND_ALL, read_conversation

_SAME = {
    *("model", "stream", "stream_options", "temperature", "top_p", "top_logprobs", "parallel_tool_calls"),
    *("metadata", "user", "service_tier", "safety_identifier", "prompt_cache_key"),
}
"""Parameters that chat completions have too, with the same meaning."""
_STATE = {"previous_response_id", "conversation", "background", "prompt"}
_TRANSLATED = {"input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning", "store"}
_CHAT_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "messages": "input",
}
_MESSAGE = re.compile(r"\Amessages\[(\d+)\](?=[.:])")
_TOOL_KEYS = {"type", "name", "description", "parameters", "strict"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesRequest:
    """A request for a response."""

    chat: ChatRequest
    """The same request for a chat completion."""
    ignored: Sequence[str]
    """Parameters without effect."""
    origins: Sequence[str]
    """Which part of the request each message comes from."""
    given: dict[str, Any]
    """The parameters as they were sent, without null; a response repeats some of them."""


def parse_responses_request(body: Any) -> ResponsesRequest:
    """Parse a request body.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    if not isinstance(body, dict):
        raise ApiError(400, "invalid_request", "the body must be a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name in sorted(given.keys() & _STATE):
        if given.pop(name):
            raise ApiError(400, "unsupported_parameter", f"{name} is not supported: {SEND_ALL}", param=name)
    for name in sorted((given.keys() & ChatRequest.model_fields.keys()) - _SAME - _TRANSLATED):
        message = f"{name} is a parameter of chat completions, not of responses"
        raise ApiError(400, "unsupported_parameter", message, param=name)
    conversation = read_conversation(given.get("input"), given.get("instructions"))
    chat = {name: value for name, value in given.items() if name not in _TRANSLATED}
    chat |= {"messages": conversation.messages, **_parameters(given)}
    with in_terms_of_responses(conversation.origins):
        request, ignored = parse_request(chat)
    if given.get("store"):
        ignored = [*ignored, "store"]
    return ResponsesRequest(chat=request, ignored=ignored, origins=conversation.origins, given=given)


@contextmanager
def in_terms_of_responses(origins: Sequence[str]) -> Iterator[None]:
    """Give errors about a chat completion the names of the response's parameters.

    Args:
        origins: Which part of the request each message comes from.
    """
    try:
        yield
    except (ApiError, InputError, MediaError) as error:
        found = to_api_error(error)
        text = _MESSAGE.sub(lambda match: origins[int(match[1])], str(found))
        if found.param in _CHAT_NAMES:
            text = text.replace(found.param, _CHAT_NAMES[found.param])
        param = _CHAT_NAMES.get(found.param or "", found.param)
        raise ApiError(
            found.status, found.code, text, param=param, headers=found.headers, record=found.record
        ) from error


def _parameters(given: dict[str, Any]) -> dict[str, Any]:
    text, reasoning = _object(given, "text"), _object(given, "reasoning")
    return {
        "max_completion_tokens": given.get("max_output_tokens"),
        "tools": _tools(given.get("tools")),
        "tool_choice": _tool_choice(given.get("tool_choice")),
        "response_format": _response_format(text.get("format")),
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
    }


def _object(given: dict[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name) or {}
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_request", f"{name} must be an object", param=name)
    return value


def _tools(tools: Any) -> list[dict[str, Any]] | None:
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ApiError(400, "invalid_request", "tools must be a list of objects", param="tools")
    return [_function(tool) for tool in tools]


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    kind = tool.get("type")
    if kind != "function":
        message = f"tools of type {str(kind)[:40]} are not supported: what they return is not guarded; send functions"
        raise ApiError(400, "unsupported_parameter", message, param="tools")
    for name in sorted(tool.keys() - _TOOL_KEYS):
        if may_hold_content(name, tool[name]):
            raise ApiError(400, "unsupported_parameter", f"tools: {name[:40]} is not supported", param="tools")
    function = {name: tool[name] for name in _TOOL_KEYS - {"type"} if tool.get(name) is not None}
    return {"type": "function", "function": function}


def _tool_choice(choice: Any) -> Any:
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "function" or not isinstance(choice.get("name"), str):
        message = "tool_choice must be none, auto, required or one function"
        raise ApiError(400, "unsupported_parameter", message, param="tool_choice")
    return {"type": "function", "function": {"name": choice["name"]}}


def _response_format(wanted: Any) -> Any:
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return wanted
    schema = {name: value for name, value in wanted.items() if name != "type" and value is not None}
    return {"type": "json_schema", "json_schema": schema}
