"""A server in front of guarded models: one gate before the APIs that clients already speak, health and metrics.

Needs the extra `serve`: `pip install 'smoothguard-guardrail[serve]'`. LangServe's routes and its playground need the
extra `langserve` as well.
"""

from __future__ import annotations

from smoothguard_guardrail.errors import MissingDependencyError

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
    import uvicorn  # noqa: F401
except ImportError as _error:
    raise MissingDependencyError(_error.name or "fastapi", "serve") from _error

from smoothguard_guardrail.serving.app import create_app
from smoothguard_guardrail.serving.connections import connection_protocol
from smoothguard_guardrail.serving.settings import ServerSettings

__all__ = ["ServerSettings", "connection_protocol", "create_app"]
