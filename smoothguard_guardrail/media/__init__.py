"""The only decoder of images and audio: from messages to tensors and back. Importing it loads torch."""

from smoothguard_guardrail.media.decode import DecodedMedium
from smoothguard_guardrail.media.image import fit
from smoothguard_guardrail.media.prepare import PreparedRequest, prepare
from smoothguard_guardrail.media.scan import scan

__all__ = ["DecodedMedium", "PreparedRequest", "fit", "prepare", "scan"]
