"""The route `POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response

from smoothguard_guardrail.serving.openai_chat.messages import request_messages
from smoothguard_guardrail.serving.openai_chat.request import parse_request
from smoothguard_guardrail.serving.openai_chat.response import ChatResponse
from smoothguard_guardrail.serving.read_json import read_json
from smoothguard_guardrail.serving.served_guard import ServedGuard, find_guard


def chat_router(guards: Mapping[str, ServedGuard]) -> APIRouter:
    """Return the route.

    Args:
        guards: Guarded models by the name that clients use.
    """
    router = APIRouter(prefix="/v1", include_in_schema=False)

    @router.post("/chat/completions")
    async def complete(request: Request) -> Response:
        chat_request, ignored = await asyncio.to_thread(parse_request, await read_json(request))
        guard = find_guard(guards, chat_request.model)
        messages = request_messages(chat_request.messages)
        answer = await guard.answer(messages, chat_request, ignored=ignored, route="/v1/chat/completions")
        response = ChatResponse(model=chat_request.model, answer=answer)
        if not chat_request.stream:
            return answer.as_json(response.completion())
        include_usage = bool(chat_request.stream_options and chat_request.stream_options.include_usage)
        return answer.as_stream(response.chunks(include_usage=include_usage))

    return router
