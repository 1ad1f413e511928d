"""The application: OpenAI's and Anthropic's APIs, LangServe routes, health and metrics behind one gate."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse

from smoothguard_guardrail import voting
from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError
from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.observability.prometheus import CONTENT_TYPE, Metrics, PrometheusHandler
from smoothguard_guardrail.serving.anthropic_messages.routes import messages_router
from smoothguard_guardrail.serving.errors import convert_framework_errors
from smoothguard_guardrail.serving.gate import Gate
from smoothguard_guardrail.serving.litellm_guardrail.routes import guardrail_router
from smoothguard_guardrail.serving.models import models_router
from smoothguard_guardrail.serving.openai_chat.routes import chat_router
from smoothguard_guardrail.serving.openai_responses.routes import responses_router
from smoothguard_guardrail.serving.served_guard import ServedGuard
from smoothguard_guardrail.serving.settings import ServerSettings

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import Runnable

_logger = logging.getLogger(__name__)

_INDEX = """SmoothGuard guards models here: GET /v1/models lists them.

For a form to try them in: pip install 'smoothguard-guardrail[langserve]'
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def create_app(
    guards: Mapping[str, SmoothGuardRunnable],
    chains: Mapping[str, Runnable[Any, Any]] | None = None,
    *,
    settings: ServerSettings | None = None,
    callbacks: Sequence[BaseCallbackHandler] = (),
) -> FastAPI:
    """Build a server of guarded models and chains.

    Every guard answers `POST /v1/chat/completions`, `POST /v1/responses` and `POST /v1/messages` under its name, and
    LiteLLM's guardrail API. With the extra `langserve` it has LangServe routes below `/guards/NAME`, and as a form with
    a playground below `/forms/NAME`; every chain has them below `/chains/NAME`. `/healthz`, `/readyz` and `/metrics`
    report the server's state.

    Args:
        guards: Guarded models by name.
        chains: Chains that contain a guard, by name. They are served unchanged: the server adds no guard.
        settings: Limits and policies.
        callbacks: Handlers of every guarded call, such as a `SafetyLogHandler`.

    Raises:
        ConfigurationError: If a name does not fit into a URL, or a guard is not a `SmoothGuardRunnable`.
        MissingDependencyError: If there are chains and LangServe is not installed.

    Example:
        >>> from smoothguard_guardrail import SmoothGuardRunnable
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> app = create_app({"scripted": SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))})
        >>> app.title
        'SmoothGuard'
    """
    chains = chains or {}
    settings = settings or ServerSettings()
    _check(guards, chains)
    needs_embedder = any(guard.components.embedder is None and guard.config.vote.embeds for guard in guards.values())
    metrics = Metrics(clients=settings.api_keys)
    handlers = [PrometheusHandler(metrics), *callbacks]
    app = FastAPI(
        title="SmoothGuard",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_lifespan(settings, needs_embedder),
    )
    app.state.ready = None
    convert_framework_errors(app)
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    served = {
        name: ServedGuard(name=name, guard=guard, settings=settings, callbacks=handlers)
        for name, guard in guards.items()
    }
    for router in (models_router, chat_router, responses_router, messages_router):
        app.include_router(router(served))
    if served:
        app.include_router(guardrail_router(served))
    playground = _add_langserve(app, guards, chains, settings=settings, callbacks=handlers)
    _add_status_routes(app, metrics, playground=playground)
    return app


def _check(guards: Mapping[str, SmoothGuardRunnable], chains: Mapping[str, Any]) -> None:
    for name in [*guards, *chains]:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"a model or chain must be named with letters, digits and ._:- only, got {name!r}")
    for name, guard in guards.items():
        if not isinstance(guard, SmoothGuardRunnable):
            raise ConfigurationError(f"{name} must be a SmoothGuardRunnable, got {type(guard).__name__}")


def _add_langserve(
    app: FastAPI,
    guards: Mapping[str, SmoothGuardRunnable],
    chains: Mapping[str, Runnable[Any, Any]],
    *,
    settings: ServerSettings,
    callbacks: Sequence[BaseCallbackHandler],
) -> str | None:
    """Add LangServe's routes where it is installed; return the path of the first, whose playground is the index page.

    Raises:
        MissingDependencyError: It is not, and there are chains, which have no other routes.
    """
    try:
        from smoothguard_guardrail.serving.langserve.form import form_chain
        from smoothguard_guardrail.serving.langserve.routes import chain_router
    except MissingDependencyError:
        if chains:
            raise
        return None
    paths: dict[str, Runnable[Any, Any]] = {f"/chains/{name}": chain for name, chain in chains.items()}
    paths |= {f"/forms/{name}": form_chain(guard) for name, guard in guards.items()}
    paths |= {f"/guards/{name}": guard for name, guard in guards.items()}
    for path, chain in paths.items():
        app.include_router(chain_router(path, chain, settings=settings, callbacks=callbacks))
    return next(iter(paths), None)


def _add_status_routes(app: FastAPI, metrics: Metrics, *, playground: str | None) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        ready = app.state.ready
        status = {None: "starting", True: "ready", False: "failed"}[ready]
        return JSONResponse({"status": status}, 200 if ready else 503)

    @app.get("/metrics")
    async def prometheus() -> Response:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    @app.get("/")
    async def index() -> Response:
        return PlainTextResponse(_INDEX) if playground is None else RedirectResponse(f"{playground}/playground/")


def _lifespan(settings: ServerSettings, needs_embedder: bool) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # The loop's default pool is small on small machines; requests that wait for a model would exhaust it.
        threads = ThreadPoolExecutor(settings.max_concurrency + 8, thread_name_prefix="smoothguard")
        asyncio.get_running_loop().set_default_executor(threads)
        warming = asyncio.create_task(_warm_up(app, needs_embedder))
        try:
            yield
        finally:
            app.state.ready = None
            warming.cancel()
            with suppress(asyncio.CancelledError):
                await warming

    return lifespan


async def _warm_up(app: FastAPI, needs_embedder: bool) -> None:
    """Load what votes need before the first guarded call does: the embedder only where a vote embeds."""
    try:
        await asyncio.to_thread(voting.classify_stances, ["ready"])
        if needs_embedder:
            await asyncio.to_thread(lambda: voting.default_embedder().embed_documents(["ready"]))
        app.state.ready = True
    except Exception:
        _logger.exception("what the vote needs cannot be loaded; the server stays not ready")
        app.state.ready = False
