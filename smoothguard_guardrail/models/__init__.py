"""Local Hugging Face models as LangChain chat models. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

__all__ = ["ChatTransformersMultimodal"]


def __getattr__(name: str) -> Any:
    if name == "ChatTransformersMultimodal":
        from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

        return ChatTransformersMultimodal
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
