"""What an elected answer says, in the words of OpenAI's APIs: the same for chat completions and responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import ToolCall

from smoothguard_guardrail.serving.json_text import readable

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

_FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}


@dataclass(frozen=True, kw_only=True)
class FunctionCall:
    """A tool call."""

    id: str
    name: str
    arguments: str
    """JSON text; of a call that LangChain could not read, what the model wrote."""


@dataclass(frozen=True)
class ElectedAnswer:
    """The parts of an answer.

    Args:
        message: What the guard elected.
    """

    message: AIMessage

    @property
    def text(self) -> str:
        """All text of the answer."""
        return str(self.message.text)

    @cached_property
    def calls(self) -> list[FunctionCall]:
        """The tool calls, the unreadable ones last."""
        found = [*self.message.tool_calls, *self.message.invalid_tool_calls]
        legacy = self.message.additional_kwargs.get("function_call")
        if not found and isinstance(legacy, dict):
            found = [ToolCall(name=legacy.get("name", ""), args=legacy.get("arguments", ""), id=None)]
        return [
            FunctionCall(
                id=call["id"] or f"call_{uuid4().hex}", name=call["name"] or "", arguments=_written(call["args"])
            )
            for call in found
        ]

    @property
    def refusal(self) -> str | None:
        """The provider's refusal, from a field or from blocks of the answer."""
        field_text = self.message.additional_kwargs.get("refusal")
        if isinstance(field_text, str) and field_text:
            return field_text
        blocks = [block for block in self.message.content if isinstance(block, dict)]
        values = [block.get("value") if block.get("type") == "non_standard" else block for block in blocks]
        texts = [
            value.get("refusal") or value.get("text")
            for value in values
            if isinstance(value, dict) and value.get("type") == "refusal"
        ]
        return "".join(text for text in texts if isinstance(text, str)) or None

    @cached_property
    def audio(self) -> dict[str, Any] | None:
        """The spoken answer: `id`, `data` in base64, `transcript` and `expires_at` in seconds since 1970."""
        given = self.message.additional_kwargs.get("audio")
        if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
            return None
        return {
            "id": str(given.get("id") or f"audio_{uuid4().hex}"),
            "data": given["data"],
            "transcript": str(given.get("transcript") or ""),
            "expires_at": given["expires_at"] if isinstance(given.get("expires_at"), int) else 0,
        }

    @property
    def finish_reason(self) -> str:
        """`stop`, `length`, `content_filter` or `tool_calls`."""
        metadata = self.message.response_metadata
        given = str(metadata.get("finish_reason") or metadata.get("stop_reason") or "stop").lower()
        reason = _FINISH_REASONS.get(given, "stop")
        is_cut_off = reason == "length" and self.message.invalid_tool_calls
        return "tool_calls" if self.calls and not is_cut_off else reason


def _written(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(readable(arguments), ensure_ascii=False, default=str)
