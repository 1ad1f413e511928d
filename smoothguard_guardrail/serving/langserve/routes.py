"""LangServe routes of one chain, reduced to what is safe: no sample leaves the server, clients configure nothing.

`invoke` and `batch` are LangServe's own, but an input that fails in a batch fails alone. `stream` and `stream_log`,
which the playground uses, send the result of an `invoke`: there is no answer before the vote, and this way a failure
still has an HTTP status.
`stream_events`, feedback, trace links and configuration in URLs do not exist.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from fastapi import APIRouter, Request, Response
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.prompt_values import ChatPromptValueConcrete, StringPromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langserve import APIHandler
from pydantic import RootModel

from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.serving.clients import client_metadata
from smoothguard_guardrail.serving.errors import (
    UpstreamError,
    is_model_error,
)
from smoothguard_guardrail.serving.json_text import readable
from smoothguard_guardrail.serving.langserve.batch import BatchRunnable, answer_batch
from smoothguard_guardrail.serving.public_record import public_output
from smoothguard_guardrail.serving.read_json import read_json

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

    from smoothguard_guardrail.serving.settings import ServerSettings

_logger = logging.getLogger(__name__)


class Messages(RootModel[ChatPromptValueConcrete | StringPromptValue | list[AnyMessage] | str]):
    """The input of a guard. A class of its own, because LangServe would build one per request for a bare type."""


def chain_router(
    path: str, chain: Runnable[Any, Any], *, settings: ServerSettings, callbacks: Sequence[BaseCallbackHandler]
) -> APIRouter:
    """Return the routes of one chain.

    Args:
        path: Prefix of the routes, such as `/chains/images`; the last part is the chain's name.
        chain: A guarded model, or a chain that contains one.
        settings: Limits and policies.
        callbacks: The server's callbacks; clients cannot add any.
    """
    served = _served(path, chain, settings, callbacks)
    handler = APIHandler(served, path=path, config_keys=())
    router = APIRouter(prefix=path, include_in_schema=False)

    @router.post("/invoke")
    async def invoke(request: Request) -> Response:
        await read_json(request)
        answer: Response = await handler.invoke(request)
        return answer

    @router.post("/batch")
    async def batch(request: Request) -> Response:
        return await answer_batch(request, handler, served, settings.max_batch)

    @router.post("/stream")
    async def stream(request: Request) -> Response:
        answer = json.loads(bytes((await invoke(request)).body))
        metadata = {"run_id": answer["metadata"]["run_id"]}
        return _events([("metadata", metadata), ("data", answer["output"]), ("end", None)])

    @router.post("/stream_log")
    async def stream_log(request: Request) -> Response:
        answer = json.loads(bytes((await invoke(request)).body))
        return _events([*(("data", {"ops": ops}) for ops in _patches(answer, path)), ("end", None)])

    @router.get("/input_schema")
    async def input_schema(request: Request) -> Any:
        return await handler.input_schema(request)

    @router.get("/output_schema")
    async def output_schema(request: Request) -> Any:
        return await handler.output_schema(request)

    @router.get("/config_schema")
    async def config_schema(request: Request) -> Any:
        return await handler.config_schema(request)

    if not isinstance(chain, SmoothGuardRunnable):  # the playground has no widget for messages

        @router.get("/playground/{file_path:path}")
        async def playground(file_path: str, request: Request) -> Any:
            return await handler.playground(file_path, request)

    return router


def _served(
    path: str, chain: Runnable[Any, Any], settings: ServerSettings, callbacks: Sequence[BaseCallbackHandler]
) -> Runnable[Any, Any]:
    """Wrap a chain: drop the client's configuration and reduce records to their public form."""
    is_guard = isinstance(chain, SmoothGuardRunnable)
    refusal = _refusal(chain, settings.refusal_text) if settings.on_failure == "refuse" else None

    async def answer(value: Any) -> Any:
        try:
            config: RunnableConfig = {"callbacks": list(callbacks), "run_name": path, "metadata": client_metadata()}
            output = await chain.ainvoke(value, config)
        except Exception as error:
            if refusal is not None:
                _logger.warning("%s refused after %s", path, type(error).__name__, exc_info=error)
                return refusal()
            if is_guard and is_model_error(error):
                raise UpstreamError from error
            raise
        return readable(public_output(output, settings.record))

    input_type: Any = Messages if is_guard else chain.get_input_schema()
    output_type: Any = AIMessage if is_guard else chain.get_output_schema()
    served = BatchRunnable(answer, name=path).with_types(input_type=input_type, output_type=output_type)
    return served.with_config(max_concurrency=settings.batch_concurrency)


def _refusal(chain: Runnable[Any, Any], text: str) -> Callable[[], Any] | None:
    """Return a function that makes a refusal of the chain's output type, or None if a text does not fit it."""
    kind: Any = chain.OutputType
    if kind is str:
        return lambda: text
    members = get_args(get_args(AnyMessage)[0]) if kind == AnyMessage else (kind,)
    if any(inspect.isclass(member) and issubclass(member, BaseMessage) for member in members):
        return lambda: AIMessage(content=text)
    return None


def _patches(answer: dict[str, Any], path: str) -> list[list[dict[str, Any]]]:
    """Return an answer as a run log without steps."""
    state = {
        "id": answer["metadata"]["run_id"],
        "name": path,
        "type": "chain",
        "streamed_output": [],
        "final_output": None,
        "logs": {},
    }
    output = answer["output"]
    return [
        [{"op": "replace", "path": "", "value": state}],
        [
            {"op": "add", "path": "/streamed_output/-", "value": output},
            {"op": "replace", "path": "/final_output", "value": output},
        ],
    ]


def _events(events: Iterable[tuple[str, Any]]) -> Response:
    text = "".join(
        f"event: {name}\r\n" + (f"data: {json.dumps(data)}\r\n" if data is not None else "") + "\r\n"
        for name, data in events
    )
    return Response(text, media_type="text/event-stream", headers={"cache-control": "no-store"})
