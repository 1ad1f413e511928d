"""Images and audio of messages as a local model gets them: found and decoded just as for the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.messages import HumanMessage

from smoothguard_guardrail.config import MediaConfig, MediaLimits
from smoothguard_guardrail.errors import MediaFetchError, UnsupportedMediaError
from smoothguard_guardrail.media.audio import resample
from smoothguard_guardrail.media.decode import UnguardedError, decode
from smoothguard_guardrail.media.decoded_medium import DecodedMedium
from smoothguard_guardrail.media.scan import scan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.messages import BaseMessage
    from numpy.typing import NDArray

    from smoothguard_guardrail.media.found_medium import Address, Found

_CONFIG = MediaConfig(
    limits=MediaLimits(max_bytes=2**31, max_pixels=178_956_970, max_seconds=86_400.0, max_decoding_mib=2**14)
)
"""The caller of a model in this process is trusted; Pillow refuses larger images in any case."""


class MessageMedia:
    """The media of messages, found once and decoded one by one.

    Args:
        messages: A conversation; it is only read.

    Raises:
        UnsupportedMediaError: A message is nested too deeply to be walked.
    """

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        self._messages = messages
        self._found = {each.block: each for each in scan(messages) if each.span is None}

    def at(self, address: Address) -> Found | None:
        """Return the medium of the block at an address; None if the block is not a medium."""
        return self._found.get(address)

    def decode(self, found: Found) -> tuple[DecodedMedium, ...]:
        """Decode a medium, or the parts of one that holds several, exactly as the guard does before it perturbs them.

        Raises:
            MediaFetchError: It is a URL or a path, which a local model never opens.
            UnsupportedMediaError: It is not an image, audio or PDF, or not understood.
            MediaLimitError: It is too large to decode.
            MediaError: It is damaged.
        """
        if found.form in ("url", "path"):
            reason = "a local model opens no URL and no path: load the file yourself and pass its bytes as base64"
            raise MediaFetchError(reason, path=found.path)
        try:
            media = decode(found, self._messages, _CONFIG)
        except UnguardedError as unsupported:
            raise unsupported.error from unsupported.__cause__
        if not media:
            raise UnsupportedMediaError("a local model takes no files: pass the text in a text block", path=found.path)
        return media


def decode_block(block: Mapping[str, Any]) -> tuple[DecodedMedium, ...]:
    """Decode one content block, in any dialect, as a local model does: its medium, or the pages of its PDF.

    Raises:
        MediaError: As `MessageMedia.decode` says; its path is that of the only block of the only message.

    Example:
        >>> import torch
        >>> decode_block({"type": "image", "image": torch.zeros(3, 8, 16)})[0].record.size
        (16, 8)
    """
    media = MessageMedia([HumanMessage(content=[dict(block)])])
    found = media.at((0, "content", 0))
    if found is None:
        raise UnsupportedMediaError("expected a block with an image, audio or PDF", path="messages[0].content[0]")
    return media.decode(found)


def mono_waveform(medium: DecodedMedium, sampling_rate: int) -> NDArray[np.float32]:
    """Average the channels of audio and resample it.

    Args:
        medium: Decoded audio.
        sampling_rate: What the model takes, in Hz.

    Returns:
        Float32 (num_samples,).
    """
    rate = medium.sampling_rate or sampling_rate
    return np.asarray(resample(medium.values, rate, sampling_rate)[0], dtype=np.float32)
