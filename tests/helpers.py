"""What the tests of the core share: pictures, requests, and guards whose components load nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable
from numpy.typing import NDArray
from PIL import Image

from smoothguard_guardrail import (
    AudioConfig,
    GuardComponents,
    ImageConfig,
    MediaConfig,
    SmoothGuardConfig,
    SmoothGuardRunnable,
    VoteConfig,
)
from smoothguard_guardrail.result import Stance
from smoothguard_guardrail.testing import WordEmbeddings

QUESTION = "What is this?"


def png(width: int = 16, height: int = 12, level: int = 128) -> bytes:
    """Return a picture of one grey level."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (level,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def image_block(data: bytes | None = None) -> dict[str, Any]:
    """Return a picture as a LangChain v1 block."""
    return {"type": "image", "base64": base64.b64encode(data or png()).decode(), "mime_type": "image/png"}


def question(*blocks: Any) -> list[BaseMessage]:
    """Return a question about a picture, a small grey one by default."""
    return [HumanMessage(content=[{"type": "text", "text": QUESTION}, *(blocks or (image_block(),))])]


def answering(texts: Sequence[str]) -> list[Stance]:
    """Take every answer for one that answers."""
    return ["answers"] * len(texts)


GROUPS = {
    "image": ImageConfig,
    "audio": AudioConfig,
    "vote": VoteConfig,
    "media": MediaConfig,
}


def config_of(**settings: Any) -> SmoothGuardConfig:
    """Return a configuration; settings of a group may be given by their own name, `snr_db` for example."""
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        group = next((group for group, kind in GROUPS.items() if name != "sigma" and name in kind.model_fields), None)
        if group is None:
            nested[name] = value
        else:
            nested.setdefault(group, {})[name] = value
    return SmoothGuardConfig(**nested)


def components_of(**parts: Any) -> GuardComponents:
    """Return components that load nothing, with some replaced."""
    return GuardComponents(**{"embedder": WordEmbeddings(), "stance_classifier": answering} | parts)


def guarded(
    model: BaseChatModel | Runnable[Any, Any], *, parts: dict[str, Any] | None = None, **settings: Any
) -> SmoothGuardRunnable:
    """Return a guard whose components load nothing and which asks all samples at once by default."""
    config = config_of(**{"refusal_share": 0.6, "min_agreement": 0.0, "early_stop": None, "num_samples": 4} | settings)
    return SmoothGuardRunnable(model, config, components=components_of(**(parts or {})))


def pixels(data: bytes | str) -> NDArray[np.float64]:
    """Return an encoded picture, as bytes, base64 or a data URI, as (height, width, 3) in [0, 1]."""
    raw = data if isinstance(data, bytes) else base64.b64decode(data.rpartition(",")[2])
    with Image.open(io.BytesIO(raw)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64) / 255
