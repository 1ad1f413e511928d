"""From messages to tensors and back: how media enter and leave the guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.errors import InputError, MediaLimitError
from smoothguard_guardrail.media import audio, image
from smoothguard_guardrail.media.decode import DecodedMedium, UnguardedError, decode
from smoothguard_guardrail.media.rewriter import Rewriter
from smoothguard_guardrail.media.scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from langchain_core.messages import BaseMessage

    from smoothguard_guardrail.config import MediaConfig
    from smoothguard_guardrail.media.found_medium import Found
    from smoothguard_guardrail.result import Medium


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

    def clean(self) -> list[BaseMessage]:
        """Return the original request without what is dropped; fetched references are bytes now."""
        rewriter = self._rewriter()
        for medium in self.media:
            if medium.found.form in ("url", "path") and medium.data is not None:
                rewriter.write(medium.found, medium.data, medium.record.mime_type or "")
        return rewriter.apply(self.messages)

    def render(self, tensors: Sequence[torch.Tensor], *, as_tensors: bool) -> list[BaseMessage]:
        """Return the request with every medium replaced, without what is dropped.

        Safe to call from several threads at once.

        Args:
            tensors: One per entry of `media`, in its range and layout; an image may have a different size.
            as_tensors: Whether blocks become `{"type": "image", "image": tensor}` or `{"type": "audio", "audio":
                tensor, "sampling_rate": int}`, not copied. Otherwise, and for media inside plain text or tool
                arguments, they are encoded (PNG, 16-bit WAV) in their original form.

        Raises:
            InputError: The number or shape of the tensors is wrong.
        """
        if len(tensors) != len(self.media):
            raise InputError(f"expected {len(self.media)} tensors, got {len(tensors)}")
        rewriter = self._rewriter()
        for medium, tensor in zip(self.media, tensors, strict=True):
            if tensor.ndim != medium.tensor.ndim or tensor.shape[0] != medium.tensor.shape[0]:
                raise InputError(
                    f"{medium.record.path}: expected shape {tuple(medium.tensor.shape)}, got {tuple(tensor.shape)}"
                )
            if as_tensors and medium.found.replaceable:
                rewriter.replace_block(medium.found, _in_process(medium, tensor))
            elif medium.found.form == "object":
                rewriter.write_object(medium.found, _like(medium, tensor))
            elif medium.kind == "image":
                rewriter.write(medium.found, image.encode_image(tensor), image.ENCODED)
            else:
                encoded = audio.encode_audio(tensor, medium.sampling_rate or 0)
                rewriter.write(medium.found, encoded, audio.ENCODED)
        return rewriter.apply(self.messages)

    def _rewriter(self) -> Rewriter:
        rewriter = Rewriter()
        for found in self.dropped:
            rewriter.drop(found)
        return rewriter


def prepare(messages: Sequence[BaseMessage], config: MediaConfig) -> PreparedRequest:
    """Find, check and decode the media of a request; blocks while fetching and decoding.

    Args:
        messages: The request; it is only read.
        config: Which references are fetched, what happens to those that are not and to what the guard cannot perturb
            (files, videos, unknown blocks), and limits, which are errors under every policy.

    Raises:
        UnsupportedMediaError: Something cannot be guarded and the policy is `error`.
        MediaFetchError: A reference may not or cannot be fetched and the policy is `error`.
        MediaLimitError: A limit is exceeded.
        MediaError: A medium is damaged.
    """
    limits, on_unsupported = config.limits, config.on_unsupported
    copies = tuple(Rewriter(share_objects=True).apply(messages))
    every = scan(copies)
    if len(every) > limits.max_count:
        reason = f"the request holds {len(every)} media; at most {limits.max_count} are allowed"
        raise MediaLimitError(reason, path=every[limits.max_count].path)
    media: list[DecodedMedium] = []
    records: list[Medium] = []
    dropped: list[Found] = []
    for found in every:
        try:
            decoded = decode(found, copies, limits, config.remote)
        except UnguardedError as unguarded:
            if on_unsupported == "error":
                raise unguarded.with_advice() from unguarded.__cause__
            records.append(unguarded.record(on_unsupported))
            if on_unsupported == "drop":
                dropped.append(found)
        else:
            if decoded is not None:
                media.append(decoded)
                records.append(decoded.record)
    return PreparedRequest(media=tuple(media), records=tuple(records), messages=copies, dropped=tuple(dropped))


def _in_process(medium: DecodedMedium, tensor: torch.Tensor) -> dict[str, Any]:
    if medium.kind == "image":
        return {"type": "image", "image": tensor}
    return {"type": "audio", "audio": tensor, "sampling_rate": medium.sampling_rate}


def _like(medium: DecodedMedium, tensor: torch.Tensor) -> Any:
    original = medium.found.value
    return image.encode_like(tensor, original) if medium.kind == "image" else audio.waveform_like(tensor, original)
