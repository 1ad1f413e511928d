"""The only decoder of images and audio: from messages to tensors and back. Importing it loads torch."""

from smoothguard_guardrail.media.audio import resample
from smoothguard_guardrail.media.decoded_medium import DecodedMedium
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.image import choose_encoding, resize
from smoothguard_guardrail.media.prepare import PreparedRequest, RenderedMedium, prepare, render_medium
from smoothguard_guardrail.media.scan import scan

__all__ = [
    "DecodedMedium",
    "Encoded",
    "PreparedRequest",
    "RenderedMedium",
    "choose_encoding",
    "prepare",
    "render_medium",
    "resample",
    "resize",
    "scan",
]
