"""A guarded answer as an OpenAI chat completion or as a stream of chunks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import ToolCall

from smoothguard_guardrail.serving.json_text import json_text, readable
from smoothguard_guardrail.serving.public_record import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    from smoothguard_guardrail.result import GuardResult

_FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """One guarded answer in OpenAI's format."""

    model: str
    result: GuardResult
    record: dict[str, Any]
    """What clients may know of the guarded call."""
    is_refusal: bool
    """Whether the guard's refusal replaces the model's answer."""
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self) -> dict[str, Any]:
        """Return one `chat.completion`."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", **self._content()},
            "logprobs": None,
            "finish_reason": self._finish_reason(),
        }
        body = {**self._head("chat.completion"), "choices": [choice]}
        return {**body, "usage": self._usage(), "smoothguard": self.record}

    def chunks(self, *, include_usage: bool) -> Iterator[str]:
        """Yield `chat.completion.chunk` server-sent events; the record is on the last chunk with a choice."""
        content = self._content()
        calls = content.pop("tool_calls", None)
        yield self._chunk({"role": "assistant", **content})
        if calls:
            yield self._chunk({"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]})
        yield self._chunk({}, finish_reason=self._finish_reason(), smoothguard=self.record)
        if include_usage:
            yield _event({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage()})
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], *, finish_reason: str | None = None, **extra: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice], **extra})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": fingerprint_of(self.record),
        }

    def _content(self) -> dict[str, Any]:
        answer = self.result.answer
        calls, refusal, text = _tool_calls(answer), _refusal(answer), str(answer.text)
        content = text if text or not (calls or refusal) else None
        return {"content": content, "refusal": refusal} | ({"tool_calls": calls} if calls else {})

    def _finish_reason(self) -> str:
        if self.is_refusal:
            return "content_filter"
        answer = self.result.answer
        metadata = answer.response_metadata
        given = str(metadata.get("finish_reason") or metadata.get("stop_reason") or "stop").lower()
        reason = _FINISH_REASONS.get(given, "stop")
        is_cut_off = reason == "length" and answer.invalid_tool_calls
        return "tool_calls" if _tool_calls(answer) and not is_cut_off else reason

    def _usage(self) -> dict[str, int] | None:
        usage: UsageMetadata | None = self.result.usage
        if usage is None:
            return None
        return {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
        }


def _tool_calls(answer: AIMessage) -> list[dict[str, Any]]:
    """Return the tool calls; those that LangChain did not read with the text that the model wrote."""
    calls = [*answer.tool_calls, *answer.invalid_tool_calls]
    legacy = answer.additional_kwargs.get("function_call")
    if not calls and isinstance(legacy, dict):
        calls = [ToolCall(name=legacy.get("name", ""), args=legacy.get("arguments", ""), id=None)]
    return [
        {
            "id": call["id"] or f"call_{uuid4().hex}",
            "type": "function",
            "function": {"name": call["name"] or "", "arguments": _written(call["args"])},
        }
        for call in calls
    ]


def _written(arguments: Any) -> str:
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(readable(arguments), ensure_ascii=False, default=str)


def _refusal(answer: AIMessage) -> str | None:
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


def _event(data: dict[str, Any]) -> str:
    return f"data: {json_text(data)}\n\n"
