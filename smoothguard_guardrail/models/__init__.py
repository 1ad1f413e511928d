"""Local Hugging Face models as LangChain chat models, and chat models by name. Names are imported on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.lazy import lazy_exports

if TYPE_CHECKING:
    from smoothguard_guardrail.models.resolver import load_model
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

_MODULES = {
    "resolver": ("load_model",),
    "transformers_chat": ("ChatTransformersMultimodal",),
}

__all__ = ["ChatTransformersMultimodal", "load_model"]

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
