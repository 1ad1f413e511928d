"""A guarded answer as an OpenAI response, and as the events of its stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from smoothguard_guardrail.serving.answer_parts import (
    AnswerCall,
    finish_reason,
    refusal_of,
    tool_calls,
    written_arguments,
)

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

    from smoothguard_guardrail.serving.openai_responses.request import ResponsesRequest
    from smoothguard_guardrail.serving.served_guard import GuardedAnswer

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Parameters that a response repeats, and what it says where they were not given."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """One guarded answer as a response.

    Args:
        request: The request.
        answer: What the guard elected, and what clients may know of the vote.
    """

    request: ResponsesRequest
    answer: GuardedAnswer
    id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def body(self) -> dict[str, Any]:
        """Return the `response` object."""
        return {
            **self._head(self._status),
            "completed_at": int(time.time()) if self._status == "completed" else None,
            "incomplete_details": {"reason": self._incomplete} if self._incomplete else None,
            "output": self.output,
            "usage": self._usage(),
            "smoothguard": self.answer.record,
        }

    def begun(self) -> dict[str, Any]:
        """Return the `response` object of the first events of a stream."""
        return {**self._head("in_progress"), "output": [], "usage": None}

    def _head(self, status: str) -> dict[str, Any]:
        given = self.request.given
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "model": self.request.chat.model,
            "error": None,
            "incomplete_details": None,
            "background": False,
            "previous_response_id": None,
            "store": False,
            **{name: given.get(name, default) for name, default in _REPEATED.items()},
        }

    @property
    def _incomplete(self) -> str | None:
        """Why the answer ends early."""
        return None if self.answer.is_refusal else _INCOMPLETE.get(finish_reason(self._message))

    @property
    def _status(self) -> str:
        return "incomplete" if self._incomplete else "completed"

    @property
    def _message(self) -> AIMessage:
        return self.answer.result.answer

    @cached_property
    def output(self) -> list[dict[str, Any]]:
        """The output items: a message, unless the answer only calls functions, and the function calls."""
        calls = [_call_item(call) for call in tool_calls(self._message)]
        parts = self._parts(optional=bool(calls))
        message = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "status": self._status}
        return [*([message | {"content": parts}] if parts else []), *calls]

    def _parts(self, *, optional: bool) -> list[dict[str, Any]]:
        text, refusal = str(self._message.text), refusal_of(self._message)
        if self.answer.is_refusal:
            text, refusal = "", text
        parts: list[dict[str, Any]] = []
        if text or not (refusal or optional):
            parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        if refusal:
            parts.append({"type": "refusal", "refusal": refusal})
        return parts

    def _usage(self) -> dict[str, Any] | None:
        usage = self.answer.result.usage
        if usage is None:
            return None
        read = usage.get("input_token_details", {})
        written = usage.get("output_token_details", {})
        return {
            "input_tokens": usage["input_tokens"],
            "input_tokens_details": {
                "cached_tokens": read.get("cache_read", 0),
                "cache_write_tokens": read.get("cache_creation", 0),
            },
            "output_tokens": usage["output_tokens"],
            "output_tokens_details": {"reasoning_tokens": written.get("reasoning", 0)},
            "total_tokens": usage["total_tokens"],
        }


def _call_item(call: AnswerCall) -> dict[str, Any]:
    return {
        "id": f"fc_{uuid4().hex}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": written_arguments(call),
    }


def stream_events(response: Response) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream of a whole response, in the order of OpenAI's own streams."""
    body = response.body()
    for number, (kind, event) in enumerate(_events(response, body)):
        yield {"type": f"response.{kind}", "sequence_number": number, **event}


def _events(response: Response, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "created", {"response": response.begun()}
    yield "in_progress", {"response": response.begun()}
    for index, item in enumerate(response.output):
        empty: dict[str, Any] = {"content": []} if item["type"] == "message" else {"arguments": ""}
        yield "output_item.added", {"output_index": index, "item": {**item, "status": "in_progress", **empty}}
        at = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            for part_index, part in enumerate(item["content"]):
                yield from _part_events(part, at | {"content_index": part_index})
        else:
            yield "function_call_arguments.delta", at | {"delta": item["arguments"]}
            yield "function_call_arguments.done", at | {"name": item["name"], "arguments": item["arguments"]}
        yield "output_item.done", {"output_index": index, "item": item}
    yield body["status"], {"response": body}


def _part_events(part: dict[str, Any], at: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = part["type"]
    key = "text" if kind == "output_text" else "refusal"
    extra: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
    yield "content_part.added", at | {"part": part | {key: ""}}
    yield f"{kind}.delta", at | {"delta": part[key], **extra}
    yield f"{kind}.done", at | {key: part[key], **extra}
    yield "content_part.done", at | {"part": part}
