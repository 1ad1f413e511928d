"""OpenAI-compatible route: `POST /v1/responses`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse

from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.serving.guarded_answer import find_guard, guarded_answer
from smoothguard_guardrail.serving.json_text import json_text
from smoothguard_guardrail.serving.openai_chat.messages import request_messages
from smoothguard_guardrail.serving.openai_responses.request import in_terms_of_responses, parse_responses_request
from smoothguard_guardrail.serving.openai_responses.response import Response, stream_events
from smoothguard_guardrail.serving.read_json import read_json

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

    from smoothguard_guardrail.serving.settings import ServerSettings


def responses_router(
    guards: Mapping[str, SmoothGuardRunnable], *, settings: ServerSettings, callbacks: Sequence[BaseCallbackHandler]
) -> APIRouter:
    """Return the route.

    Args:
        guards: Guarded models by the name that clients use.
        settings: Limits and policies.
        callbacks: The server's callbacks; clients cannot add any.
    """
    router = APIRouter(prefix="/v1", include_in_schema=False)

    @router.post("/responses")
    async def respond(request: Request) -> HttpResponse:
        asked = await asyncio.to_thread(parse_responses_request, await read_json(request))
        guard = find_guard(guards, asked.chat.model)
        with in_terms_of_responses(asked.origins):
            answer = await guarded_answer(
                guard,
                request_messages(asked.chat.messages),
                asked.chat,
                ignored=asked.ignored,
                model=asked.chat.model,
                route="/v1/responses",
                settings=settings,
                callbacks=callbacks,
            )
        response = Response(request=asked, answer=answer)
        return answer.as_stream(_server_sent(response)) if asked.chat.stream else answer.as_json(response.body())

    return router


def _server_sent(response: Response) -> Iterator[str]:
    for event in stream_events(response):
        yield f"event: {event['type']}\ndata: {json_text(event)}\n\n"
