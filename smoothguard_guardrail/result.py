"""What one guarded call reports: plain, frozen values that survive JSON, checkpoints and the wire."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from pydantic import BaseModel, ConfigDict, GetPydanticSchema

Verdict = Literal["passed", "abstained", "skipped"]
MediaKind = Literal["image", "audio"]
MediaAction = Literal["perturbed", "dropped", "passed"]
# Validated as a plain dict: providers add details of their own, such as OpenAI's "priority_cache_read".
Usage = Annotated[UsageMetadata, GetPydanticSchema(lambda _, handler: handler.generate_schema(dict[str, Any]))]


class _Record(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Sample(_Record):
    """One model call of a guarded request."""

    index: int
    """Position among the calls, from 0."""
    clean: bool
    """Whether this call saw the media unperturbed."""
    cluster: int | None = None
    """Cluster of the answer (0 is the largest); None when the call failed."""
    benign: float | None = None
    """Benign score in [-1, 1]; None when the call failed or nothing was scored."""
    similarity: float | None = None
    """Cosine similarity to the representative of the winning cluster; None when the call failed."""
    usage: Usage | None = None
    """Tokens that the model reported for this call."""
    error: str | None = None
    """Type and message of the failure; None when the call answered."""
    text: str | None = None
    """The answer, only with `record_samples=True`."""


class Cluster(_Record):
    """One group of answers that say the same."""

    label: int
    """0 is the largest."""
    size: int
    """Number of answers in it."""
    share: float
    """`size` over the number of answers."""
    benign: float
    """Mean benign score of its answers, in [-1, 1]; 0 when nothing was scored."""
    score: float
    """What the vote compared: share plus `benign_weight` times `benign`."""
    representative: int
    """Index of the sample that represents it."""


class Medium(_Record):
    """One medium of the request, and what was done to it."""

    path: str
    """Where it is, such as `messages[0].content[1]`."""
    kind: str
    """`image`, `audio`, or the kind of a block that could not be guarded (`video`, `pdf`, `unknown`, ...)."""
    action: MediaAction
    """`perturbed`; or `dropped` / `passed` when `on_unsupported` says so."""
    mime_type: str | None = None
    """Detected from the bytes, not as declared."""
    num_bytes: int | None = None
    """Encoded size in bytes."""
    sha256: str | None = None
    """Of the encoded original, in hex."""
    size: tuple[int, int] | None = None
    """Width and height in pixels as decoded; None for audio."""
    perturbed_size: tuple[int, int] | None = None
    """Width and height in pixels at which the noise was added."""
    duration: float | None = None
    """Seconds; None for images."""
    noise_sd: float | None = None
    """Measured standard deviation of the change, clipping included, in units of [0, 1] pixels or of the waveform."""
    notes: tuple[str, ...] = ()
    """Facts for a reader: `first frame of 12`, `alpha composited on white`, ..."""


class GuardResult(_Record):
    """The answer of one guarded call and the evidence for it."""

    answer: AIMessage
    """The elected message, with its tool calls and metadata."""
    verdict: Verdict
    """`passed`; `abstained`: agreement below `min_agreement`; `skipped`: the request has no media."""
    agreement: float
    """Share of the answers that are in the winning cluster, in [0, 1]."""
    clean_overruled: bool | None = None
    """Whether the clean copy's answer lost the vote; None when no clean copy answered."""
    clusters: tuple[Cluster, ...] = ()
    winner: int | None = None
    """Label of the winning cluster."""
    samples: tuple[Sample, ...] = ()
    media: tuple[Medium, ...] = ()
    sigma: float | None = None
    """As configured, in units of `noise_space`."""
    noise_space: Literal["pixel", "normalized"] | None = None
    seed: int | None = None
    """Seed that repeats this call's noise."""
    usage: Usage | None = None
    """Summed over the samples."""
    timings: dict[str, float] = {}
    """Seconds by stage: `scan`, `perturb`, `model`, `vote` (embedding included), `total`."""
    num_calls: int
    """Number of model calls."""

    def to_metadata(self) -> dict[str, Any]:
        """Return everything but the answer as plain JSON values.

        The seed is left out: a reader of one answer's metadata must not learn the noise of the next one. Failures are
        reduced to their type, since parsers and providers quote answers and requests in their messages.
        """
        record = self.model_dump(mode="json", exclude={"answer", "seed"}, exclude_none=True)
        for sample in record["samples"]:
            if "error" in sample:
                sample["error"] = sample["error"].partition(":")[0]
        return record
