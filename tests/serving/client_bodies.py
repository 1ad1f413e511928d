"""Request bodies as chat clients build them, by their source code and documentation.

Open WebUI: `backend/open_webui/routers/openai.py` and the web page's `generateOpenAIChatCompletion`. LibreChat: its
documented default parameters, and LangChain's JavaScript client, which it calls. Vercel's AI SDK:
`convert-to-openai-chat-messages.ts`, `convert-to-openai-compatible-chat-messages.ts` and
`convert-to-openai-responses-input.ts`.
"""

from __future__ import annotations

import json
from typing import Any

MODEL = "scripted"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
    "$schema": "http://json-schema.org/draft-07/schema#",
}
FUNCTION = {"name": "weather", "description": "The weather in a city.", "parameters": WEATHER}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def _image(picture: str, **extra: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}", **extra}}


def open_webui(picture: str) -> dict[str, Any]:
    """What its backend sends to a provider, with usage, native tools and a cached last message."""
    text = {"type": "text", "text": "What is it?"}
    return {
        "stream": True,
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Rome?"},
            {"role": "assistant", "content": "", "tool_calls": [{**CALL, "index": 0}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
            {"role": "assistant", "content": "Sunny.", "reasoning_content": "The tool says so."},
            {"role": "user", "content": [text, _image(picture) | {"cache_control": {"type": "ephemeral"}}]},
        ],
        "temperature": 0.7,
        "max_tokens": 500,
        "stream_options": {"include_usage": True},
        "reasoning": {"effort": "low"},
        "tools": [{"type": "function", "function": FUNCTION}],
        "user": {"name": "Ann", "id": "u1", "email": "ann@example.com", "role": "user"},
    }


def open_webui_page(picture: str) -> dict[str, Any]:
    """What its web page sends, as proxies between it and a provider see it."""
    return {
        "stream": True,
        "model": MODEL,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, _image(picture)]},
        ],
        "params": {},
        "tool_servers": [],
        "features": {"voice": False, "image_generation": False, "code_interpreter": False, "web_search": False},
        "variables": {"{{USER_NAME}}": "Ann", "{{CURRENT_DATE}}": "2026-11-27"},
        "model_item": {"id": MODEL, "object": "model", "owned_by": "openai", "connection_type": "external"},
        "session_id": "Kx1",
        "chat_id": "0b2d",
        "id": "5f1c",
        "parent_id": "7a9e",
        "background_tasks": {"title_generation": True, "tags_generation": True, "follow_up_generation": True},
        "metadata": {"chat_id": "0b2d", "message_id": "5f1c", "files": None, "features": {}},
    }


def libre_chat(picture: str) -> dict[str, Any]:
    """A conversation of a custom endpoint, whose model is asked with all of LibreChat's default parameters."""
    return {
        "model": MODEL,
        "temperature": 1,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "user": "6740c1e3a0f1",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [_image(picture, detail="auto"), {"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A square."}]},
            {"role": "user", "content": [{"type": "text", "text": "Which colour?"}]},
        ],
    }


def vercel_openai(picture: str) -> dict[str, Any]:
    """`openai.chat` with a reasoning model, a tool round trip and an output schema."""
    return {
        "model": MODEL,
        "max_completion_tokens": 400,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"schema": WEATHER, "strict": True, "name": "response"},
        },
        "reasoning_effort": "low",
        "store": False,
        "metadata": {"feature": "chat"},
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, _image(picture, detail="low")]},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": '{"sky":"clear"}'},
        ],
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        "tool_choice": "auto",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def vercel_compatible(picture: str, recording: str) -> dict[str, Any]:
    """`createOpenAICompatible` with audio as a data URI, reasoning, and a tool that returns an image."""
    shown = json.dumps([{"type": "media", "data": picture, "mediaType": "image/png"}])
    audio = {"data": f"data:audio/wav;base64,{recording}", "format": "wav"}
    call = CALL | {"extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl"}}}
    return {
        "model": MODEL,
        "user": "u1",
        "max_tokens": 400,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "input_audio", "input_audio": audio}]},
            {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": shown},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "stream": True,
    }


def langchain_tool_image(picture: str) -> dict[str, Any]:
    """`ChatOpenAI` after a tool that returned content blocks."""
    return {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": "Weather in Rome?", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {
                "role": "tool",
                "tool_call_id": "call_1",
                "content": [{"type": "text", "text": "Seen:"}, _image(picture)],
            },
        ],
        "stream": False,
        "n": 1,
        "temperature": 0.7,
    }


def vercel_responses(picture: str) -> dict[str, Any]:
    """`openai` of the AI SDK, which calls `/v1/responses`, with `store: false`."""
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{picture}"}
    return {
        "model": MODEL,
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Weather in Rome?"}, image]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA", "summary": []},
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look."}], "id": "msg_1"},
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city":"Rome"}',
                "id": "fc_1",
            },
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [{"type": "input_text", "text": "Seen:"}, image],
            },
        ],
        "max_output_tokens": 400,
        "text": {"verbosity": "low"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [{"type": "function", **FUNCTION, "strict": False}],
        "tool_choice": "auto",
        "stream": True,
    }
