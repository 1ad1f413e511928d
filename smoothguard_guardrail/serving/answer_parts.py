"""What every door tells of a model's answer: its tool calls, its refusal, its audio, and why it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from smoothguard_guardrail.serving.json_text import readable

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

_FINISH_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCall:
    """A tool call of an answer."""

    id: str
    name: str
    args: Any
    """Its arguments, or the text that the model wrote, if LangChain did not read it."""


def tool_calls(answer: AIMessage) -> list[AnswerCall]:
    """Return the tool calls of an answer, those that LangChain did not read included."""
    calls: list[Any] = [*answer.tool_calls, *answer.invalid_tool_calls]
    legacy = answer.additional_kwargs.get("function_call")
    if not calls and isinstance(legacy, dict):
        calls = [{"name": legacy.get("name"), "args": legacy.get("arguments"), "id": None}]
    return [
        AnswerCall(id=call["id"] or f"call_{uuid4().hex}", name=call["name"] or "", args=call["args"]) for call in calls
    ]


def written_arguments(call: AnswerCall) -> str:
    """Return the arguments of a call as JSON text, or as the model wrote them."""
    if call.args is None:
        return ""
    return call.args if isinstance(call.args, str) else json.dumps(readable(call.args), ensure_ascii=False, default=str)


def audio_of(answer: AIMessage) -> dict[str, Any] | None:
    """Return a spoken answer in OpenAI's form: `id`, `data` in base64, `transcript`, `expires_at` in Unix seconds."""
    given = answer.additional_kwargs.get("audio")
    if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
        return None
    return {
        "id": str(given.get("id") or f"audio_{uuid4().hex}"),
        "data": given["data"],
        "transcript": str(given.get("transcript") or ""),
        "expires_at": given["expires_at"] if isinstance(given.get("expires_at"), int) else 0,
    }


def refusal_of(answer: AIMessage) -> str | None:
    """Return the provider's refusal, from a field or from blocks of the answer."""
    field_text = answer.additional_kwargs.get("refusal")
    if isinstance(field_text, str) and field_text:
        return field_text
    blocks = [block for block in answer.content if isinstance(block, dict)]
    values = [block.get("value") if block.get("type") == "non_standard" else block for block in blocks]
    texts = [
        value.get("refusal") or value.get("text")
        for value in values
        if isinstance(value, dict) and value.get("type") == "refusal"
    ]
    return "".join(text for text in texts if isinstance(text, str)) or None


def finish_reason(answer: AIMessage) -> FinishReason:
    """Return why an answer ended, in OpenAI's words; `length` where its last tool call was cut off."""
    metadata = answer.response_metadata
    given = str(metadata.get("finish_reason") or metadata.get("stop_reason") or "stop").lower()
    reason = _FINISH_REASONS.get(given, "stop")
    is_cut_off = reason == "length" and answer.invalid_tool_calls
    return "tool_calls" if tool_calls(answer) and not is_cut_off else reason
