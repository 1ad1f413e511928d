"""Serves the page on loopback: nothing is sent elsewhere, and no other page may use it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smoothguard_guardrail.errors import ConfigurationError, MissingDependencyError
from smoothguard_guardrail.inspector.actions import Actions
from smoothguard_guardrail.inspector.export import page_style
from smoothguard_guardrail.models.reference.demo import DEMO_DIR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastapi import FastAPI
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.config import SmoothGuardConfig

HOST = "127.0.0.1"
_NAMES = ("127.0.0.1", "localhost")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:;"
    " worker-src 'self' blob:; object-src 'none'; frame-ancestors 'none'; form-action 'self'"
)
"""Gradio's page needs inline scripts and `eval`; what counts here is that the browser contacts no other host."""
_PAGE_STYLE = """
footer { display: none !important }
.gradio-container { max-width: 92rem !important }
#examples .grid-wrap { height: auto; max-height: none; min-height: 0; overflow: visible }
#examples .grid-container { grid: auto-flow auto / repeat(5, minmax(0, 1fr)); gap: .35rem; padding-top: 1.5rem }
#examples .gallery-item { height: auto }
#examples .thumbnail-lg { width: 100%; height: auto; aspect-ratio: 1 }
#examples .caption-label { inset: auto 0 0; max-width: none; padding: 0; font-size: .64rem; text-align: center }
@media (max-width: 40rem) {
  .gradio-container, .gradio-container > main { padding: .4rem !important }
  #inputs { display: contents } #results { order: 2 } #settings { order: 3 }
}
"""
"""Gradio's gallery would scroll sideways and leave room for ten rows; a phone shows the results before the settings."""


class OwnPagesOnly:
    """Refuses requests that another site's page makes the browser send, and forbids outside requests by a policy."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"requests of other sites are refused"})
            return

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                added = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, with_policy)


def create_app(actions: Actions) -> FastAPI:
    """Return the page as an ASGI app.

    Raises:
        MissingDependencyError: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise MissingDependencyError("gradio", "ui") from error
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from smoothguard_guardrail.inspector.page import build_page

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnPagesOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(_NAMES))
    fonts, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    gr.mount_gradio_app(
        app,
        build_page(actions),
        path="/",
        allowed_paths=[str(DEMO_DIR)],
        max_file_size=actions.config.media.limits.max_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=fonts, font_mono=mono),
        head=f"<style>{page_style()}{_PAGE_STYLE}</style>",  # `css` would parse it and lose rules with variables
    )
    return app


def serve(
    model: BaseChatModel,
    name: str,
    config: SmoothGuardConfig,
    *,
    logs: Sequence[Path] = (),
    port: int,
    on_start: Callable[[str], None],
) -> None:
    """Serve the page until the process is interrupted. Uploads are kept in a folder that is deleted at the end.

    Args:
        model: The model.
        name: Its name.
        config: The guard's configuration before anything is changed on the page.
        logs: Safety logs that the page may show.
        port: On loopback; 0: a free one.
        on_start: Called with the address.

    Raises:
        ConfigurationError: The port cannot be used.
        MissingDependencyError: Gradio is not installed.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be used ({error.strerror}): choose another") from error
    with listener, tempfile.TemporaryDirectory(prefix="smoothguard-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        app = create_app(Actions(model, name, config, logs=logs, folder=Path(folder)))
        import uvicorn

        from smoothguard_guardrail.voting import default_embedder

        threading.Thread(target=default_embedder, daemon=True).start()  # it takes seconds, and the first map needs it
        on_start(f"http://{HOST}:{listener.getsockname()[1]}")
        options = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again: uploads must be deleted
        with suppress(KeyboardInterrupt):
            uvicorn.Server(options).run(sockets=[listener])
