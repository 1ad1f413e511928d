"""The route `POST /v1/messages`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response

from smoothguard_guardrail.serving.anthropic_messages.errors import PATH
from smoothguard_guardrail.serving.anthropic_messages.messages import request_messages
from smoothguard_guardrail.serving.anthropic_messages.request import parse_request
from smoothguard_guardrail.serving.anthropic_messages.response import MessageResponse
from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.read_json import read_json
from smoothguard_guardrail.serving.served_guard import ServedGuard, find_guard


def messages_router(guards: Mapping[str, ServedGuard]) -> APIRouter:
    """Return the routes.

    Args:
        guards: Guarded models by the name that clients use.
    """
    router = APIRouter(prefix=PATH, include_in_schema=False)

    @router.post("")
    async def create(request: Request) -> Response:
        asked, ignored = await asyncio.to_thread(parse_request, await read_json(request))
        guard = find_guard(guards, asked.model)
        messages = request_messages(asked.system, asked.messages)
        answer = await guard.answer(messages, asked.parameters(), ignored=ignored, route=PATH)
        response = MessageResponse(model=asked.model, answer=answer)
        return answer.as_stream(response.events()) if asked.stream else answer.as_json(response.message())

    @router.post("/count_tokens")
    async def count_tokens() -> Response:
        raise ApiError(
            404, "not_found", "tokens cannot be counted here: every sample of the guard has tokens of its own"
        )

    return router
