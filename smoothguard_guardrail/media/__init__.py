"""The only decoder of media: from messages to tensors and back. Importing it loads torch."""

from smoothguard_guardrail.media.audio import resample
from smoothguard_guardrail.media.decoded_medium import DecodedMedium
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import choose_encoding, resize
from smoothguard_guardrail.media.prepare import (
    PreparedRequest,
    RenderedMedium,
    SearchedRequest,
    decode_media,
    prepare,
    render_medium,
    search,
)
from smoothguard_guardrail.media.scan import scan

__all__ = [
    "DecodedMedium",
    "Encoded",
    "PreparedRequest",
    "RenderedMedium",
    "SearchedRequest",
    "choose_encoding",
    "decode_media",
    "prepare",
    "render_medium",
    "resample",
    "resize",
    "scan",
    "search",
]
