"""LangServe's routes for guards, forms and chains. Needs the extra `langserve`; LangServe itself is archived."""

from __future__ import annotations

from smoothguard_guardrail.errors import MissingDependencyError

try:
    import langserve  # noqa: F401
    import sse_starlette  # noqa: F401
except ImportError as _error:
    raise MissingDependencyError(_error.name or "langserve", "langserve") from _error
