"""`GET /v1/models`: the models that are served, in one form that OpenAI's and Anthropic's clients both read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from smoothguard_guardrail.serving.json_text import SafeJSONResponse
from smoothguard_guardrail.serving.served_guard import ServedGuard, find_guard


def models_router(guards: Mapping[str, ServedGuard]) -> APIRouter:
    """Return the routes.

    Args:
        guards: Guarded models by the name that clients use.
    """
    router = APIRouter(prefix="/v1/models", include_in_schema=False)
    started = datetime.now(UTC).replace(microsecond=0)

    @router.get("")
    async def models() -> Response:
        page = {"has_more": False, "first_id": next(iter(guards), None), "last_id": next(reversed(list(guards)), None)}
        return SafeJSONResponse({"object": "list", "data": [_model(name, started) for name in guards], **page})

    @router.get("/{name:path}")
    async def model(name: str) -> Response:
        find_guard(guards, name)
        return SafeJSONResponse(_model(name, started))

    return router


def _model(name: str, started: datetime) -> dict[str, Any]:
    openai = {"object": "model", "created": int(started.timestamp()), "owned_by": "smoothguard"}
    anthropic = {"type": "model", "display_name": name, "created_at": started.isoformat()}
    return {"id": name, **openai, **anthropic}
