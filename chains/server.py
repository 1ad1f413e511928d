"""A server of guarded chains, with a playground for pictures.

`python -m chains.server [PORT]` runs it offline on the shipped reference model; open http://127.0.0.1:8000/. The same
model answers any OpenAI client at http://127.0.0.1:8000/v1. `smoothguard serve` is the way to serve a model alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from chains.visual_question_answering import build_chain
from smoothguard_guardrail import SmoothGuardConfig, SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, create_app

if TYPE_CHECKING:
    from fastapi import FastAPI
    from langchain_core.runnables import Runnable


class PictureQuestion(BaseModel):
    """What the playground asks for."""

    image: str = Field(title="Picture", json_schema_extra={"extra": {"widget": {"type": "base64file"}}})
    """Base64 of a picture's file."""
    question: str = Field("What is it?", title="Question")
    mime_type: str = Field("image/png", title="Media type")
    """Of the file; the guard goes by the bytes."""


def build_app(
    model: Runnable[Any, Any] | str,
    config: SmoothGuardConfig | None = None,
    *,
    name: str,
    settings: ServerSettings | None = None,
) -> FastAPI:
    """Compose a server of one model: guarded for OpenAI clients, and in a chain that answers questions about pictures.

    Args:
        model: A multimodal chat model, or a string for `init_chat_model`.
        config: The guard's knobs.
        name: What clients call the model.
        settings: Limits and policies. By default LangServe routes refuse where guard or model fail.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> build_app(ScriptedChatModel(script=["A cat."]), name="scripted").title
        'SmoothGuard'
    """
    chain: Runnable[Any, str] = build_chain(model, config)
    pictures = chain.with_types(input_type=PictureQuestion)
    return create_app(
        {name: SmoothGuardRunnable(model, config=config)},
        {"pictures": pictures},
        settings=settings or ServerSettings(on_failure="refuse"),
    )


def main(arguments: list[str]) -> None:
    """Serve the shipped model on loopback."""
    import uvicorn

    from smoothguard_guardrail.models import ChatTransformersMultimodal
    from smoothguard_guardrail.models.reference import reference_path

    model = ChatTransformersMultimodal.from_pretrained(str(reference_path()), local_files_only=True)
    app = build_app(model, SmoothGuardConfig.reference(), name="reference")
    uvicorn.run(app, port=int(arguments[0]) if arguments else 8000)


if __name__ == "__main__":
    main(sys.argv[1:])
