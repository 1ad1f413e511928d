"""Replies in the format of each provider's API."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.recording import Answer

TEXT = "A cat."
TOKENS = (10, 2)
"""Input and output tokens of every reply."""

REPLIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    },
    "/responses": {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "gpt",
        "status": "completed",
        "output": [
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
            }
        ],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        },
    },
    "/v1/messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 2},
    },
    ":generateContent": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12},
        "modelVersion": "gemini",
    },
    "/api/chat": {
        "model": "llava",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": TEXT},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 10,
        "eval_count": 2,
    },
}


def scripted_answers(texts: list[str]) -> Answer:
    """Return an `answer` for all providers whose replies have these texts, in turn and from the start again.

    If a request to Anthropic forces a tool, the reply calls that tool with the text, a JSON object, as its arguments.
    """
    count = 0

    def answer(path: str, body: bytes) -> bytes:
        nonlocal count
        text = texts[count % len(texts)]
        count += 1
        route = path.partition("?")[0]
        reply = next(reply for end, reply in REPLIES.items() if route.endswith(end))
        if "tool_choice" in (request := json.loads(body)) and route.endswith("/v1/messages"):
            call = {"type": "tool_use", "id": "toolu_1", "name": request["tool_choice"]["name"]}
            reply = reply | {"content": [call | {"input": json.loads(text)}], "stop_reason": "tool_use"}
        return json.dumps(reply).replace(json.dumps(TEXT), json.dumps(text)).encode()

    return answer
