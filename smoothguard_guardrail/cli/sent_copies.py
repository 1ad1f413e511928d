"""The media that a model was sent, as files."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler

from smoothguard_guardrail.media import prepare
from smoothguard_guardrail.media.audio import encode_audio
from smoothguard_guardrail.media.image import encode_png

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig
    from smoothguard_guardrail.media.decode import DecodedMedium


class SentCopies(BaseCallbackHandler):
    """Keeps the request of every model call; pass it in the `callbacks` of a guarded call."""

    def __init__(self) -> None:
        self._requests: list[list[BaseMessage]] = []
        self._lock = threading.Lock()

    def on_chat_model_start(self, serialized: Any, messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        """Keep the requests of one call."""
        with self._lock:
            self._requests += messages

    def save(self, folder: Path, config: MediaConfig) -> None:
        """Write every medium of every request: images as PNG, audio as WAV.

        The files are `01_1.png` and so on: the number of the call and of the medium.

        Raises:
            OSError: The folder cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for call, request in enumerate(self._requests, 1):
            for place, medium in enumerate(prepare(request, config).media, 1):
                data, suffix = _encoded(medium)
                (folder / f"{call:02}_{place}.{suffix}").write_bytes(data)


def _encoded(medium: DecodedMedium) -> tuple[bytes, str]:
    if medium.kind == "image":
        return encode_png(medium.tensor), "png"
    return encode_audio(medium.tensor, medium.sampling_rate or 16_000).data, "wav"
