"""The route of LiteLLM's generic guardrail API."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response

from smoothguard_guardrail.serving.json_text import SafeJSONResponse
from smoothguard_guardrail.serving.litellm_guardrail.decide import ROUTE, decide
from smoothguard_guardrail.serving.litellm_guardrail.request import parse_request
from smoothguard_guardrail.serving.read_json import read_json
from smoothguard_guardrail.serving.served_guard import ServedGuard


def guardrail_router(guards: Mapping[str, ServedGuard]) -> APIRouter:
    """Return the route. A request is guarded by the guard with its model's name, if there is one, else by the first.

    Args:
        guards: Guarded models by name, at least one.
    """
    router = APIRouter(include_in_schema=False)
    first = next(iter(guards))

    @router.post(ROUTE)
    async def apply(request: Request) -> Response:
        guardrail_request = parse_request(await read_json(request))
        wanted = guardrail_request.model
        name = wanted if wanted is not None and wanted in guards else first
        return SafeJSONResponse(await decide(guards[name], guardrail_request))

    return router
