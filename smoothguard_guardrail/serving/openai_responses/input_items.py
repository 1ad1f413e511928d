"""The input of a response as the messages of a chat completion. Media stay as they are, for the guard to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.openai_chat.messages import may_hold_content

ROLES = {"user", "system", "developer", "assistant"}
SEND_ALL = "this server keeps no responses: send the whole input instead"
_IGNORED_KEYS = {
    *("id", "status", "type", "phase", "annotations", "logprobs", "parsed", "parsed_arguments", "caller"),
    *("pending_safety_checks", "acknowledged_safety_checks", "prompt_cache_breakpoint"),
}
"""Keys that clients send back with earlier items; the model does not need them."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages of a chat completion, and which part of the request each of them comes from."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    """Such as `instructions` or `input[2]`, for error messages."""

    def add(self, message: dict[str, Any], origin: str) -> None:
        """Append a message."""
        self.messages.append(message)
        self.origins.append(origin)

    def add_call(self, call: dict[str, Any], origin: str) -> None:
        """Append a tool call: chat completions expect all calls of one turn in one message."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            self.add({"role": "assistant", "content": ""}, origin)
        self.messages[-1].setdefault("tool_calls", []).append(call)


def read_conversation(given: Any, instructions: Any) -> Conversation:
    """Return a request's instructions and input as the messages of a chat completion.

    Args:
        given: Text, or a list of items.
        instructions: Text, or None.

    Raises:
        ApiError: If an item is not valid, or of a type that cannot be guarded.
    """
    found = Conversation()
    if instructions is not None:
        if not isinstance(instructions, str):
            raise ApiError(400, "invalid_request", "instructions must be text", param="instructions")
        found.add({"role": "system", "content": instructions}, "instructions")
    if isinstance(given, str):
        found.add({"role": "user", "content": given}, "input")
    elif isinstance(given, list) and given:
        for index, item in enumerate(given):
            try:
                _add_item(item, found, f"input[{index}]")
            except _ItemError as error:
                raise _bad_item(index, str(error)) from None
            except (TypeError, ValueError, AttributeError):
                raise _bad_item(index, "is not a valid item") from None
    else:
        raise ApiError(400, "invalid_request", "the input must be text or a list of items", param="input")
    return found


class _ItemError(Exception):
    """Why an item is not valid."""


def _bad_item(index: int, why: str) -> ApiError:
    return ApiError(400, "invalid_request", f"input[{index}]: {why}", param="input")


def _add_item(item: Any, found: Conversation, origin: str) -> None:
    if not isinstance(item, dict):
        raise _ItemError("must be an object")
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    if kind == "item_reference":
        raise _ItemError(f"item_reference is not supported, {SEND_ALL}")
    add = _ITEMS.get(kind) if isinstance(kind, str) else None
    if add is None:
        raise _ItemError(f"items of type {str(kind)[:40]} are not supported: this server cannot guard them")
    add(item, found, origin)


def _add_message(item: dict[str, Any], found: Conversation, origin: str) -> None:
    given = _fields(item, "role", "content")
    if given.get("role") not in ROLES:
        raise _ItemError(f"the role must be one of {', '.join(sorted(ROLES))}")
    found.add({"role": given["role"], "content": _content(given.get("content"))}, origin)


def _add_function_call(item: dict[str, Any], found: Conversation, origin: str) -> None:
    given = _fields(item, "call_id", "name", "arguments", "namespace")
    function = {"name": given.get("name"), "arguments": given.get("arguments", "")}
    found.add_call({"id": given.get("call_id"), "type": "function", "function": function}, origin)


def _add_custom_tool_call(item: dict[str, Any], found: Conversation, origin: str) -> None:
    given = _fields(item, "call_id", "name", "input", "namespace")
    _add_other_call(given, given.get("name"), {"input": given.get("input")}, found, origin)


def _add_computer_call(item: dict[str, Any], found: Conversation, origin: str) -> None:
    given = _fields(item, "call_id", "action", "actions")
    arguments = {name: given[name] for name in ("action", "actions") if name in given}
    _add_other_call(given, "computer", arguments, found, origin)


def _add_other_call(given: dict[str, Any], name: Any, arguments: Any, found: Conversation, origin: str) -> None:
    function = {"name": name, "arguments": json.dumps(arguments)}
    found.add_call({"id": given.get("call_id"), "type": "function", "function": function}, origin)


def _add_tool_output(item: dict[str, Any], found: Conversation, origin: str) -> None:
    given = _fields(item, "call_id", "output", "name", "namespace")
    if not isinstance(given.get("call_id"), str):
        raise _ItemError("the call_id must be text")
    output = given.get("output")
    content = _content([output] if isinstance(output, dict) else output)  # a screenshot is one part
    found.add({"role": "tool", "tool_call_id": given["call_id"], "content": content}, origin)


def _add_generated_image(item: dict[str, Any], found: Conversation, origin: str) -> None:
    """Show a generated image as the user's: chat models take no image in an answer."""
    result = item.get("result")
    if not isinstance(result, str) or not result:
        raise _ItemError(f"image_generation_call must have a result, {SEND_ALL}")
    part = {"type": "image_url", "image_url": {"url": _data_uri(result, "image/png")}}
    found.add({"role": "user", "content": [part]}, origin)


def _skip_reasoning(item: dict[str, Any], found: Conversation, origin: str) -> None:
    """Skip what an earlier model thought, as with chat completions; only its own provider could read it."""
    given = _fields(item, "summary", "content", "encrypted_content")
    for part in [*(given.get("summary") or ()), *(given.get("content") or ())]:
        if not isinstance(part, dict) or part.get("type") not in ("summary_text", "reasoning_text"):
            raise _ItemError("reasoning must be text")


_ITEMS: dict[str, Callable[[dict[str, Any], Conversation, str], None]] = {
    "message": _add_message,
    "function_call": _add_function_call,
    "custom_tool_call": _add_custom_tool_call,
    "computer_call": _add_computer_call,
    "function_call_output": _add_tool_output,
    "custom_tool_call_output": _add_tool_output,
    "computer_call_output": _add_tool_output,
    "image_generation_call": _add_generated_image,
    "reasoning": _skip_reasoning,
}


def _content(content: Any) -> str | list[dict[str, Any]]:
    """Return text or parts; one part of text is text, which every model takes."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _ItemError("the content must be text or a list of parts")
    parts = [_part(part) for part in content]
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": _text(_fields(part, "text").get("text"))}
    if kind == "refusal":
        return {"type": "text", "text": _text(_fields(part, "refusal").get("refusal"))}
    if kind in ("input_image", "computer_screenshot"):
        return _image({"type": kind, **_fields(part, "image_url", "file_id", "detail")})
    if kind == "input_file":
        return _file({"type": kind, **_fields(part, "file_data", "file_id", "file_url", "filename", "detail")})
    if kind == "input_audio":
        return {"type": kind, **_fields(part, "input_audio")}
    raise _ItemError(f"parts of type {str(kind)[:40]} are not supported")


def _image(part: dict[str, Any]) -> dict[str, Any]:
    """Return an image in the form that all chat models know; what is not one URL goes to the guard unchanged."""
    if "file_id" in part or not isinstance(part.get("image_url"), str):
        return part
    detail = {"detail": part["detail"]} if "detail" in part else {}
    return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}


def _file(part: dict[str, Any]) -> dict[str, Any]:
    """Return a file in the form that all chat models know; what is not one file goes to the guard unchanged."""
    if "file_url" in part or "file_id" in part or not isinstance(part.get("file_data"), str):
        return part
    name = {"filename": part["filename"]} if "filename" in part else {}
    return {"type": "file", "file": {"file_data": part["file_data"], **name}}


def _data_uri(data: str, mime_type: str) -> str:
    return data if data.startswith("data:") else f"data:{mime_type};base64,{data}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _ItemError("text must be a string")
    return value


def _fields(given: dict[str, Any], *known: str) -> dict[str, Any]:
    """Return the known fields that are given.

    Raises:
        _ItemError: Another field could hold media or instructions.
    """
    found = {name: value for name, value in given.items() if value is not None and name not in _IGNORED_KEYS}
    for name in found.keys() - set(known):
        if may_hold_content(name, found.pop(name)):
            raise _ItemError(f"{name[:40]} is not supported")
    return found
