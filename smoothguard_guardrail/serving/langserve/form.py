"""A guard as a web form: a question and a file in, a text out."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import BaseModel, Field

from smoothguard_guardrail.errors import InputError
from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
from smoothguard_guardrail.media.formats import sniff

_WIDGET: dict[str, Any] = {"extra": {"widget": {"type": "base64file"}}}


class Form(BaseModel):
    """The input of LangServe's playground."""

    file: str = Field("", title="Image or audio", json_schema_extra=_WIDGET)
    """The file in base64; may be empty."""
    question: str = Field("What is it?", title="Question")


def form_chain(guard: SmoothGuardRunnable) -> Runnable[Any, str]:
    """Compose a chain from a `Form`, as a dict, to the text of the elected answer.

    Example:
        >>> from smoothguard_guardrail.testing import ScriptedChatModel
        >>> form_chain(SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))).invoke({"question": "Hi!"})
        'Hello.'
    """
    request = RunnableLambda(_request).with_types(input_type=Form)  # type: ignore[arg-type]
    chain: Runnable[Any, str] = request | guard | StrOutputParser()
    return chain


def _request(form: dict[str, str]) -> list[HumanMessage]:
    blocks: list[str | dict[str, Any]] = [{"type": "text", "text": form["question"]}]
    if form.get("file"):
        blocks.insert(0, _block(form["file"]))
    return [HumanMessage(blocks)]


def _block(file: str) -> dict[str, Any]:
    try:
        found = sniff(base64.b64decode(file[:4096], validate=True))
    except binascii.Error:
        raise InputError("file must be base64, got something else") from None
    kind = found.kind if found and found.kind in ("image", "audio") else "file"
    return {"type": kind, "base64": file, "mime_type": found.mime_type if found else "application/octet-stream"}
