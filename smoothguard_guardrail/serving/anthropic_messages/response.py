"""A guarded answer as an Anthropic message or as a stream of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from smoothguard_guardrail.serving.answer_parts import finish_reason, refusal_of, tool_calls
from smoothguard_guardrail.serving.errors import ABSTAINED
from smoothguard_guardrail.serving.json_text import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smoothguard_guardrail.serving.served_guard import GuardedAnswer

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool_calls": "tool_use"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageResponse:
    """One guarded answer in Anthropic's format."""

    model: str
    answer: GuardedAnswer
    id: str = field(default_factory=lambda: f"msg_{uuid4().hex}")

    def message(self) -> dict[str, Any]:
        """Return one `message`."""
        return self._head() | {"content": self._content(), **self._end(), "usage": self._usage()}

    def events(self) -> Iterator[str]:
        """Yield the server-sent events of a stream; the record is on the message of the first."""
        usage = self._usage()
        begun: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        yield _event("message_start", message=self._head() | begun | {"usage": usage | {"output_tokens": 0}})
        yield _event("ping")
        for index, block in enumerate(self._content()):
            yield from _block_events(index, block)
        yield _event("message_delta", delta=self._end(), usage=usage)
        yield _event("message_stop")

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "smoothguard": self.answer.record,
        }

    def _content(self) -> list[dict[str, Any]]:
        answer = self.answer.result.answer
        text = str(answer.text) or refusal_of(answer)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        for call in tool_calls(answer):
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.args)})
        return blocks

    def _end(self) -> dict[str, Any]:
        """Return why the answer ended."""
        answer = self.answer.result.answer
        reason = _STOP_REASONS[finish_reason(answer)]
        details = sequence = None
        if self.answer.is_refusal or (refusal_of(answer) and not answer.text):
            reason = "refusal"
        if reason == "refusal":
            details = {
                "type": "refusal",
                "category": None,
                "explanation": ABSTAINED if self.answer.is_refusal else None,
            }
        if reason == "end_turn" and answer.response_metadata.get("stop_reason") == "stop_sequence":
            reason, sequence = "stop_sequence", answer.response_metadata.get("stop_sequence")
        return {"stop_reason": reason, "stop_sequence": sequence, "stop_details": details}

    def _usage(self) -> dict[str, int]:
        """Return the tokens of all samples; 0 where the model does not report them, since clients need a number."""
        usage = self.answer.result.usage
        return {name: usage[name] if usage else 0 for name in ("input_tokens", "output_tokens")}


def _block_events(index: int, block: dict[str, Any]) -> Iterator[str]:
    empty: dict[str, Any]
    if block["type"] == "text":
        empty, delta = {"text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        empty, delta = {"input": {}}, {"type": "input_json_delta", "partial_json": json_text(block["input"])}
    yield _event("content_block_start", index=index, content_block=block | empty)
    yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _input(args: Any) -> dict[str, Any]:
    """Return a tool call's arguments. What is not a JSON object stands under the key that Anthropic's manual names."""
    if isinstance(args, dict):
        return args
    return {"INVALID_JSON": str(args)} if args and str(args).strip() else {}


def _event(kind: str, **data: Any) -> str:
    return f"event: {kind}\ndata: {json_text({'type': kind, **data})}\n\n"
