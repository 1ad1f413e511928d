"""Messages of a chat completion request as LangChain messages."""

from __future__ import annotations

import json
from typing import Any, NoReturn
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall, convert_to_messages

from smoothguard_guardrail.media import dialects
from smoothguard_guardrail.serving.errors import ApiError

ROLES = {"system", "developer", "user", "assistant", "tool"}
_MESSAGE_KEYS = {"role", "content", "name", "tool_calls", "tool_call_id", "refusal"}
_IGNORED_KEYS = {
    *("annotations", "reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks"),
    *("provider_specific_fields", "cache_control"),
}
"""Keys that clients send back with earlier answers; the model does not need them."""
_MAX_ID = 100
"""Length of the longest text that can only be an id, a date or a name."""
_CALL_KEYS = {"id", "type", "index", "function", "extra_content", "provider_specific_fields"}


def request_messages(messages: list[dict[str, Any]]) -> list[BaseMessage]:
    """Return a request's messages. Their parts stay unchanged, for the guard to check.

    Raises:
        ApiError: If a message is not valid.
    """
    found = []
    for index, message in enumerate(messages):
        try:
            found.append(_message(message))
        except _MessageError as error:
            raise _bad_message(index, str(error)) from None
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError):
            raise _bad_message(index, "is not a valid chat message") from None
    return found


class _MessageError(Exception):
    """Why a message is not valid."""


def _message(message: dict[str, Any]) -> BaseMessage:
    given = {key: value for key, value in message.items() if value is not None and key not in _IGNORED_KEYS}
    unknown = {key for key in given.keys() - _MESSAGE_KEYS if may_hold_content(key, given.pop(key))}
    if "audio" in unknown:
        raise _MessageError("this server does not keep spoken answers, send the transcript as content instead of audio")
    if unknown:
        raise _MessageError(f"{min(unknown)[:40]} is not supported")
    if given.get("role") not in ROLES:
        raise _MessageError(f"the role must be one of {', '.join(sorted(ROLES))}")
    refusal = given.pop("refusal", "")
    content = given.get("content") or (refusal if given["role"] == "assistant" else "")
    given["content"] = content
    is_parts = isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("type"), str) for part in content
    )
    if not isinstance(content, str) and not is_parts:
        raise _MessageError("the content must be text or a list of typed parts")
    calls = given.pop("tool_calls", None) or []
    (converted,) = convert_to_messages([given])
    return _with_calls(converted, calls) if calls else converted


def may_hold_content(name: str, value: Any) -> bool:
    """Return whether dropping a field could drop media or instructions; ids, dates and switches could not."""
    if isinstance(value, str):
        return bool(value) and (len(value) > _MAX_ID or name in dialects.DATA_KEYS | dialects.REFERENCE_KEYS)
    return isinstance(value, dict) or (isinstance(value, list) and bool(value))


def _with_calls(message: BaseMessage, calls: Any) -> AIMessage:
    if not isinstance(message, AIMessage):
        raise _MessageError("only assistant messages have tool_calls")
    if not isinstance(calls, list):
        raise _MessageError("tool_calls must be a list")
    valid: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in calls:
        name, raw = _function(call)
        identity = call.get("id") or f"call_{uuid4().hex}"
        arguments = _arguments(raw)
        if arguments is None:
            # What the model wrote, for the model to see: its tool answered that it could not read it.
            invalid.append(InvalidToolCall(name=name, args=raw, id=identity, error=None, type="invalid_tool_call"))
        else:
            valid.append(ToolCall(name=name, args=arguments, id=identity, type="tool_call"))
    return AIMessage(content=message.content, name=message.name, tool_calls=valid, invalid_tool_calls=invalid)


def _function(call: Any) -> tuple[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or "arguments" not in function:
        raise _MessageError("each of tool_calls must have a function with a name and arguments")
    if any(may_hold_content(key, value) for key, value in call.items() if key not in _CALL_KEYS):
        raise _MessageError("tool_calls must have functions only")
    arguments = function["arguments"]
    if arguments is not None and not isinstance(arguments, str | dict):
        raise _MessageError("the arguments of tool_calls must be text in JSON")
    return function["name"], arguments


def _arguments(raw: str | dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a tool call's arguments; {} for none, None for what cannot be read."""
    if isinstance(raw, dict):
        return raw
    if not (raw and raw.strip()):
        return {}
    try:
        # Not strict: models write line breaks into strings.
        found = json.loads(raw, strict=False, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else {} if found is None else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _bad_message(index: int, why: str) -> ApiError:
    return ApiError(400, "invalid_request", f"messages[{index}]: {why}", param="messages")
