"""A guarded answer as an OpenAI chat completion or as a stream of chunks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from smoothguard_guardrail.serving.answer_parts import (
    audio_of,
    finish_reason,
    refusal_of,
    tool_calls,
    written_arguments,
)
from smoothguard_guardrail.serving.json_text import json_text
from smoothguard_guardrail.serving.public_record import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.messages import AIMessage
    from langchain_core.messages.ai import UsageMetadata

    from smoothguard_guardrail.serving.served_guard import GuardedAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """One guarded answer in OpenAI's format."""

    model: str
    answer: GuardedAnswer
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
        return {**body, "usage": self._usage(), "smoothguard": self.answer.record}

    def chunks(self, *, include_usage: bool) -> Iterator[str]:
        """Yield `chat.completion.chunk` server-sent events; the record is on the last chunk with a choice."""
        content = self._content()
        calls, audio = content.pop("tool_calls", None), content.pop("audio", None)
        yield self._chunk({"role": "assistant", **content})
        for name in ("transcript", "data", "expires_at") if audio else ():
            yield self._chunk({"audio": {"id": audio["id"], name: audio[name]}})
        if calls:
            yield self._chunk({"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]})
        yield self._chunk({}, finish_reason=self._finish_reason(), smoothguard=self.answer.record)
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
            "system_fingerprint": fingerprint_of(self.answer.record),
        }

    def _content(self) -> dict[str, Any]:
        answer = self.answer.result.answer
        calls, refusal, audio, text = _calls(answer), refusal_of(answer), audio_of(answer), str(answer.text)
        content = text if text or not (calls or refusal or audio) else None
        others = {"audio": audio, "tool_calls": calls}
        return {"content": content, "refusal": refusal} | {name: value for name, value in others.items() if value}

    def _finish_reason(self) -> str:
        return "content_filter" if self.answer.is_refusal else finish_reason(self.answer.result.answer)

    def _usage(self) -> dict[str, int] | None:
        usage: UsageMetadata | None = self.answer.result.usage
        if usage is None:
            return None
        return {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
        }


def _calls(answer: AIMessage) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": written_arguments(call)}}
        for call in tool_calls(answer)
    ]


def _event(data: dict[str, Any]) -> str:
    return f"data: {json_text(data)}\n\n"
