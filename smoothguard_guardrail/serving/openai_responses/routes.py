"""OpenAI-compatible route: `POST /v1/responses`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse

from smoothguard_guardrail.serving.json_text import json_text
from smoothguard_guardrail.serving.openai_chat.messages import request_messages
from smoothguard_guardrail.serving.openai_responses.request import in_terms_of_responses, parse_responses_request
from smoothguard_guardrail.serving.openai_responses.response import Response, stream_events
from smoothguard_guardrail.serving.read_json import read_json
from smoothguard_guardrail.serving.served_guard import ServedGuard, find_guard


def responses_router(guards: Mapping[str, ServedGuard]) -> APIRouter:
    """Return the route.

    Args:
        guards: Guarded models by the name that clients use.
    """
    router = APIRouter(prefix="/v1", include_in_schema=False)

    @router.post("/responses")
    async def respond(request: Request) -> HttpResponse:
        asked = await asyncio.to_thread(parse_responses_request, await read_json(request))
        guard = find_guard(guards, asked.chat.model)
        with in_terms_of_responses(asked.origins):
            messages = request_messages(asked.chat.messages)
            answer = await guard.answer(messages, asked.chat, ignored=asked.ignored, route="/v1/responses")
        response = Response(request=asked, answer=answer)
        return answer.as_stream(_server_sent(response)) if asked.chat.stream else answer.as_json(response.body())

    return router


def _server_sent(response: Response) -> Iterator[str]:
    for event in stream_events(response):
        yield f"event: {event['type']}\ndata: {json_text(event)}\n\n"
