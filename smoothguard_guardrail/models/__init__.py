"""Local Hugging Face models as LangChain chat models, and chat models by name. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.models.by_name import load_model
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

_MODULES = {"ChatTransformersMultimodal": "transformers_chat", "load_model": "by_name"}

__all__ = ["ChatTransformersMultimodal", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
