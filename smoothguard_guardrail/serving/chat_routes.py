"""OpenAI-compatible routes: `POST /v1/chat/completions` and `GET /v1/models`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from langchain_core.runnables import RunnableConfig

from smoothguard_guardrail._langchain.sample_calls import unwrap
from smoothguard_guardrail.errors import AbstainedError
from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.serving.chat_messages import request_messages
from smoothguard_guardrail.serving.chat_request import parse_request
from smoothguard_guardrail.serving.chat_response import ChatResponse
from smoothguard_guardrail.serving.errors import ABSTAINED, ApiError, UpstreamError, is_model_error
from smoothguard_guardrail.serving.json_text import SafeJSONResponse
from smoothguard_guardrail.serving.model_arguments import model_arguments
from smoothguard_guardrail.serving.public_record import public_record, verdict_headers
from smoothguard_guardrail.serving.read_json import read_json

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

    from smoothguard_guardrail.serving.settings import ServerSettings


def chat_router(
    guards: Mapping[str, SmoothGuardRunnable], *, settings: ServerSettings, callbacks: Sequence[BaseCallbackHandler]
) -> APIRouter:
    """Return the routes.

    Args:
        guards: Guarded models by the name that clients use.
        settings: Limits and policies.
        callbacks: The server's callbacks; clients cannot add any.
    """
    router = APIRouter(prefix="/v1", include_in_schema=False)
    created = int(time.time())

    @router.get("/models")
    async def models() -> Response:
        return SafeJSONResponse({"object": "list", "data": [_model(name, created) for name in guards]})

    @router.get("/models/{name:path}")
    async def model(name: str) -> Response:
        _find_guard(guards, name)
        return SafeJSONResponse(_model(name, created))

    @router.post("/chat/completions")
    async def complete(request: Request) -> Response:
        chat_request, ignored = parse_request(await read_json(request))
        guard = _find_guard(guards, chat_request.model)
        arguments, unknown_to_model = model_arguments(chat_request, unwrap(guard.model).model)
        config: RunnableConfig = {"callbacks": list(callbacks), "run_name": "/v1/chat/completions"}
        try:
            result = await guard.aguard(request_messages(chat_request.messages), config, **arguments)
        except AbstainedError as error:
            record = public_record(error.result.to_metadata(), settings.record)
            headers = verdict_headers(record)
            raise ApiError(422, "abstained", ABSTAINED, record=record, headers=headers) from error
        except Exception as error:
            if is_model_error(error):
                raise UpstreamError from error
            raise
        record = public_record(result.to_metadata(), settings.record)
        if ignored := sorted({*ignored, *unknown_to_model}):
            record["ignored_parameters"] = ignored
        response = ChatResponse(
            model=chat_request.model,
            result=result,
            record=record,
            is_refusal=result.verdict == "abstained" and result.action == "refused",
        )
        headers = verdict_headers(record)
        if not chat_request.stream:
            return SafeJSONResponse(response.completion(), headers=headers)
        include_usage = bool(chat_request.stream_options and chat_request.stream_options.include_usage)
        chunks = response.chunks(include_usage=include_usage)
        return StreamingResponse(
            chunks, media_type="text/event-stream", headers=headers | {"cache-control": "no-store"}
        )

    return router


def _find_guard(guards: Mapping[str, SmoothGuardRunnable], name: str) -> SmoothGuardRunnable:
    if name not in guards:
        raise ApiError(
            404,
            "model_not_found",
            f"the model must be one of: {', '.join(guards) or '(none is served)'}",
            param="model",
        )
    return guards[name]


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "smoothguard"}
