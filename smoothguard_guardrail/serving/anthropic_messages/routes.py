"""The route `POST /v1/messages`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response

from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.serving.anthropic_messages.errors import PATH
from smoothguard_guardrail.serving.anthropic_messages.messages import request_messages
from smoothguard_guardrail.serving.anthropic_messages.request import parse_request
from smoothguard_guardrail.serving.anthropic_messages.response import MessageResponse
from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.guarded_answer import find_guard, guarded_answer
from smoothguard_guardrail.serving.read_json import read_json

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

    from smoothguard_guardrail.serving.settings import ServerSettings


def messages_router(
    guards: Mapping[str, SmoothGuardRunnable], *, settings: ServerSettings, callbacks: Sequence[BaseCallbackHandler]
) -> APIRouter:
    """Return the routes.

    Args:
        guards: Guarded models by the name that clients use.
        settings: Limits and policies.
        callbacks: The server's callbacks; clients cannot add any.
    """
    router = APIRouter(prefix=PATH, include_in_schema=False)

    @router.post("")
    async def create(request: Request) -> Response:
        asked, ignored = await asyncio.to_thread(parse_request, await read_json(request))
        guard = find_guard(guards, asked.model)
        answer = await guarded_answer(
            guard,
            request_messages(asked.system, asked.messages),
            asked.parameters(),
            ignored=ignored,
            model=asked.model,
            route=PATH,
            settings=settings,
            callbacks=callbacks,
        )
        response = MessageResponse(model=asked.model, answer=answer)
        return answer.as_stream(response.events()) if asked.stream else answer.as_json(response.message())

    @router.post("/count_tokens")
    async def count_tokens() -> Response:
        raise ApiError(
            404, "not_found", "tokens cannot be counted here: every sample of the guard has tokens of its own"
        )

    return router
