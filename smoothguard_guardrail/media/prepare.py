"""From messages to tensors and back: how media enter and leave the guard."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import InputError, MediaLimitError
from smoothguard_guardrail.media import audio, image
from smoothguard_guardrail.media.decode import UnguardedError, decode, may_take_long
from smoothguard_guardrail.media.decoded_medium import DecodedMedium
from smoothguard_guardrail.media.formats import Encoded
from smoothguard_guardrail.media.pdf import PDF
from smoothguard_guardrail.media.rewriter import Rewriter
from smoothguard_guardrail.media.scan import scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig, MediaLimits
    from smoothguard_guardrail.media.found_medium import Found
    from smoothguard_guardrail.media.sizing import Sizing
    from smoothguard_guardrail.result import Medium


RenderedMedium = Any
"""What stands for a medium in a request: an `Encoded`, a dict as its block, a list of them for the bands of an image or
for a captioned part of a file, or any other object instead of the original one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest:
    """A request whose media are found, checked and decoded."""

    media: tuple[DecodedMedium, ...]
    """The media to perturb, in order of appearance."""
    records: tuple[Medium, ...]
    """Every medium of the request, including those dropped and passed."""
    messages: tuple[BaseMessage, ...]
    """Copies of the original messages."""
    dropped: tuple[Found, ...]

    def unchanged(self) -> list[BaseMessage]:
        """Return the request without what is dropped, for one that has nothing to perturb."""
        return self._rewriter().apply(self.messages)

    def render(self, media: Sequence[RenderedMedium]) -> list[BaseMessage]:
        """Return the request with every medium replaced, without what is dropped.

        What names the original, such as ids and cache keys beside its bytes, is removed. Safe to call from several
        threads at once.

        Args:
            media: One per entry of `media`; see `RenderedMedium`.

        Raises:
            InputError: Their number is wrong, or an image that is to be cut into bands does not stand in a list.
        """
        if len(media) != len(self.media):
            raise InputError(f"expected {len(self.media)} media, got {len(media)}")
        rewriter = self._rewriter()
        parts = groupby(zip(self.media, media, strict=True), key=lambda pair: id(pair[0].found))
        for _, pairs in parts:
            _write(rewriter, *zip(*pairs, strict=True))
        return rewriter.apply(self.messages)

    def _rewriter(self) -> Rewriter:
        rewriter = Rewriter()
        for found in self.dropped:
            rewriter.drop(found)
        return rewriter


def _write(rewriter: Rewriter, media: tuple[DecodedMedium, ...], rendered: tuple[RenderedMedium, ...]) -> None:
    """Write a medium, or all parts of one that holds several."""
    found, container = media[0].found, media[0].container
    new = _flat(rendered)
    if container is not None and isinstance(new[0], Encoded):
        new = [container.write(new)]
    if len(new) > 1:
        rewriter.write_several(found, new)
    elif isinstance(new[0], Encoded):
        rewriter.write(found, new[0])
    elif isinstance(new[0], dict):
        rewriter.replace_block(found, new[0])
    else:
        rewriter.write_object(found, new[0])


def _flat(rendered: Iterable[RenderedMedium]) -> list[Any]:
    return [each for new in rendered for each in (_flat(new) if isinstance(new, list) else [new])]


class _Budget:
    """What the media of one request may take together: each was decoded before it counts, at its limit at most."""

    def __init__(self, config: MediaConfig) -> None:
        self._limits = config.limits
        self._pdf_timeout = config.pdf.timeout
        self._pixels = 0
        self._seconds = 0.0
        self._drawing = 0.0

    def spend_drawing(self, parts: Sequence[DecodedMedium], seconds: float) -> None:
        if not parts or parts[0].record.mime_type != PDF:
            return
        self._drawing += seconds
        if self._drawing > self._pdf_timeout:
            reason = f"the request's PDFs up to here cannot be drawn in {self._pdf_timeout:g} s (media.pdf.timeout)"
            raise MediaLimitError(reason, path=parts[0].found.path)

    def spend(self, medium: DecodedMedium) -> None:
        width, height = medium.record.size or (0, 0)
        self._pixels += width * height
        self._seconds += medium.record.duration or 0.0
        if self._pixels > self._limits.max_total_pixels:
            most = f"{self._limits.max_total_pixels:,} pixels"
        elif self._seconds > self._limits.max_total_seconds:
            most = f"{self._limits.max_total_seconds:g} s"
        else:
            return
        raise MediaLimitError(f"the request holds more than {most} up to here", path=medium.record.path)


def render_medium(
    medium: DecodedMedium, values: torch.Tensor, *, as_tensors: bool, encoding: str = "PNG"
) -> RenderedMedium:
    """Turn a copy of a medium into what stands for it in a request.

    Args:
        medium: The medium.
        values: The copy, in its range and number of channels, on any device; an image may have a different size.
        as_tensors: Whether blocks become `{"type": "image", "image": tensor}` or `{"type": "audio", "audio": tensor,
            "sampling_rate": int}`, not copied. Otherwise, and for media inside plain text or tool arguments, the copy
            is encoded, or becomes an object like the original.
        encoding: Of images; see `choose_encoding`.

    Raises:
        InputError: The number of dimensions or channels is wrong.
    """
    if values.ndim != medium.values.ndim or values.shape[0] != medium.values.shape[0]:
        raise InputError(
            f"{medium.record.path}: expected shape {tuple(medium.values.shape)}, got {tuple(values.shape)}"
        )
    as_blocks = medium.becomes_blocks(as_tensors=as_tensors)
    if as_blocks and as_tensors:
        return _captioned(medium, {medium.kind: values})
    if medium.found.form == "object":
        original = medium.found.value
        return image.encode_like(values, original) if medium.kind == "image" else audio.waveform_like(values, original)
    if medium.kind == "image":
        encoded = image.encode_image(values, encoding)
    else:
        encoded = audio.encode_audio(values, medium.sampling_rate or 0)
    return _captioned(medium, {"base64": encoded.base64, "mime_type": encoded.mime_type}) if as_blocks else encoded


def _captioned(medium: DecodedMedium, payload: dict[str, Any]) -> RenderedMedium:
    """Return a block of LangChain's, after one with its caption."""
    rate = {"sampling_rate": medium.sampling_rate} if medium.kind in payload and medium.sampling_rate else {}
    block = {"type": medium.kind} | payload | rate
    return [{"type": "text", "text": medium.caption}, block] if medium.caption else block


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedRequest:
    """A request whose media are found."""

    messages: tuple[BaseMessage, ...]
    """Copies of the messages."""
    found: tuple[Found, ...]

    def may_take_long(self, config: MediaConfig) -> bool:
        """Return whether decoding them may wait or take seconds; see `decode.may_take_long`."""
        return any(may_take_long(found, config) for found in self.found)


def search(messages: Sequence[BaseMessage], limits: MediaLimits) -> SearchedRequest:
    """Find the media of a request.

    Args:
        messages: The request; it is only read.
        limits: On their number.

    Raises:
        MediaLimitError: There are too many.
        UnsupportedMediaError: A message is nested too deeply.
    """
    copies = tuple(Rewriter(share_objects=True).apply(messages))
    found = tuple(scan(copies))
    if len(found) > limits.max_count:
        reason = f"the request holds {len(found)} media; at most {limits.max_count} are allowed"
        raise MediaLimitError(reason, path=found[limits.max_count].path)
    return SearchedRequest(messages=copies, found=found)


def prepare(messages: Sequence[BaseMessage], config: MediaConfig, sizing: Sizing | None = None) -> PreparedRequest:
    """Find, check and decode the media of a request; blocks while fetching and decoding.

    See `search` and `decode_media` for the arguments and errors.
    """
    return decode_media(search(messages, config.limits), config, sizing)


def decode_media(request: SearchedRequest, config: MediaConfig, sizing: Sizing | None = None) -> PreparedRequest:
    """Check and decode the media of a request; blocks while fetching and decoding.

    Args:
        request: The request.
        config: Which references are fetched, what happens to those that are not and to what the guard cannot perturb
            (file ids, other formats, unknown blocks), and limits, which are errors under every policy.
        sizing: The size and rate at which the media are wanted; None: their own.

    Raises:
        UnsupportedMediaError: Something cannot be guarded and the policy is `error`.
        MediaFetchError: A reference may not or cannot be fetched and the policy is `error`.
        MediaLimitError: A limit is exceeded.
        MediaError: A medium is damaged.
    """
    on_unsupported = config.on_unsupported
    media: list[DecodedMedium] = []
    records: list[Medium] = []
    dropped: list[Found] = []
    budget = _Budget(config)
    for found in request.found:
        start = time.monotonic()
        try:
            parts = decode(found, request.messages, config, sizing)
        except UnguardedError as unguarded:
            if on_unsupported == "error":
                raise unguarded.with_advice() from unguarded.__cause__
            records.append(unguarded.record(on_unsupported))
            if on_unsupported == "drop":
                dropped.append(found)
        else:
            budget.spend_drawing(parts, time.monotonic() - start)
            for part in parts:
                budget.spend(part)
                media.append(part)
                records.append(part.record)
    return PreparedRequest(
        media=tuple(media), records=tuple(records), messages=request.messages, dropped=tuple(dropped)
    )
