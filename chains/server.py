"""A server of guarded chains, with a playground for images.

`python -m chains.server [PORT]` runs it offline on the shipped reference model; open http://127.0.0.1:8000/. The same
model answers any OpenAI client at http://127.0.0.1:8000/v1. To serve only a model, use `smoothguard serve`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chains.visual_question_answering import build_chain
from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, connection_protocol, create_app

if TYPE_CHECKING:
    from fastapi import FastAPI
    from langchain_core.runnables import Runnable


class ImageQuestion(BaseModel):
    """The input of the playground."""

    image: str = Field(title="Image", json_schema_extra={"extra": {"widget": {"type": "base64file"}}})
    """The image file in base64."""
    question: str = Field("What is it?", title="Question")
    mime_type: str = Field("image/png", title="Media type")
    """Media type of the file; the guard detects it from the bytes."""


def build_app(
    model: Runnable[Any, Any] | str,
    config: SmoothGuardConfig | None = None,
    *,
    name: str,
    settings: ServerSettings | None = None,
) -> FastAPI:
    """Compose a server of one model: guarded for OpenAI clients, and in a chain that answers questions about images.

    Args:
        model: A multimodal chat model, or a string for `init_chat_model`.
        config: The guard's configuration.
        name: Name of the model for clients.
        settings: Limits and policies. By default LangServe routes answer failures with a refusal.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> build_app(ScriptedChatModel(script=["A cat."]), name="scripted").title
        'SmoothGuard'
    """
    chain: Runnable[Any, str] = build_chain(model, config)
    images = chain.with_types(input_type=ImageQuestion)
    return create_app(
        {name: SmoothGuardRunnable(model, config=config)},
        {"images": images},
        settings=settings or ServerSettings(on_failure="refuse"),
    )


def main(arguments: list[str]) -> None:
    """Serve the shipped model on loopback."""
    import uvicorn

    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path

    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()), local_files_only=True)
    settings = ServerSettings(on_failure="refuse")
    app = build_app(model, SmoothGuardConfig.reference(), name="reference", settings=settings)
    uvicorn.run(app, port=int(arguments[0]) if arguments else 8000, http=connection_protocol(settings))


if __name__ == "__main__":
    main(sys.argv[1:])
