"""What one guarded call reports: plain, frozen values that survive JSON, checkpoints and the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema

from smoothguard_guardrail import __version__

RECORD_VERSION: Literal[1] = 1
"""Of the record's JSON Schema, `record.schema.json`; raised when a released field changes its name or meaning."""

Verdict = Literal["passed", "abstained", "skipped"]
Action = Literal["answered", "refused", "skipped"]
Reason = Literal["refusals", "majority", "low_agreement", "tie", "no_media"]
"""What decided: refusals won; the largest group of other answers did; no group was large enough; two were equally good;
or there was nothing to vote on."""
Stance = Literal["refuses", "unsure", "answers"]
"""What an answer does with the question: `refuses`; is `unsure`, as noise causes ("too blurry to tell"); or
`answers`."""
MediaKind = Literal["image", "audio"]
MediaAction = Literal["perturbed", "dropped", "passed"]
# Validated as a plain dict: providers add details of their own, such as OpenAI's "priority_cache_read".
Usage = Annotated[UsageMetadata, GetPydanticSchema(lambda _, handler: handler.generate_schema(dict[str, Any]))]


class _Record(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class VotePolicy(_Record):
    """The settings that the vote of a call followed."""

    rule: Literal["stance", "sentiment"]
    """As `vote.rule`; not followed where `components` names a voter."""
    refusal_share: float | None = None
    """As `vote.refusal_share`; None where `rule` is `sentiment`."""
    benign_weight: float | None = None
    """As `vote.benign_weight`; None where `rule` is `stance`."""
    min_agreement: float
    """As `vote.min_agreement`."""
    on_abstain: Literal["answer", "refuse", "raise"]
    """As `vote.on_abstain`."""
    num_samples: int
    """Most model calls, the clean one included."""
    early_stop: Literal["lossless"] | float | None = None
    """As `early_stop`; None: every sample was asked for."""


class Sample(_Record):
    """One model call of a guarded request."""

    index: int
    """Position among the calls, from 0."""
    clean: bool
    """Whether this call saw the media unperturbed."""
    cluster: int | None = None
    """Cluster of the answer (0 is the largest); None when the call failed."""
    stance: Stance | None = None
    """What the answer does with the question; None when the call failed or the request was skipped."""
    benign: float | None = None
    """Benign score in [-1, 1]; None when the call failed or the vote does not use scores."""
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
    stance: Stance
    """What its answers do with the question."""
    benign: float | None = None
    """Mean benign score of its answers, in [-1, 1]; None when the vote does not use scores."""
    score: float
    """What the vote compared; see the voter."""
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
    size_known_by: Literal["measurement", "documentation", "nothing"] | None = None
    """How it was known at what size the model sees the image: measured by the model itself, documented by its provider,
    or not at all; None for audio."""
    duration: float | None = None
    """Seconds; None for images."""
    noise_sd: float | None = None
    """Measured standard deviation of the change, clipping included, in units of [0, 1] pixels or of the waveform."""
    effective_sd: float | None = None
    """What is left of it at the model's input, in the same units; None where it is unknown what the model sees."""
    notes: tuple[str, ...] = ()
    """Facts for a reader: `first frame of 12`, `alpha composited on white`, ..."""


class GuardRecord(_Record):
    """The evidence for one answer, as a message carries it in `response_metadata["smoothguard"]`.

    Example:
        >>> record = {"verdict": "skipped", "action": "skipped", "reason": "no_media", "agreement": 1.0, "num_calls": 1}
        >>> GuardRecord.model_validate(record).verdict
        'skipped'
    """

    schema_version: Literal[1] = RECORD_VERSION
    version: str = Field(default_factory=lambda: __version__)
    """Of the package."""
    settings_hash: str | None = None
    """`SmoothGuardConfig.settings_hash` of the guard."""
    components: dict[str, str] | None = None
    """Parts of the user's own, as `{"voter": "module.Voter"}`; None without any."""
    policy: VotePolicy | None = None
    verdict: Verdict
    """`passed`; `abstained`: no group has the share `min_agreement` of the answers; `skipped`: no media in the
    request."""
    action: Action
    """What the caller got: the model's answer (`answered`); a refusal, the model's own or `refusal_text` (`refused`);
    or the answer to a request without media (`skipped`)."""
    reason: Reason | None = None
    """What decided."""
    withheld: bool = False
    """Whether `vote.refusal_text` replaced the elected answer."""
    agreement: float
    """Share of the answers that are in the winning cluster, in [0, 1]."""
    suspicion: float | None = None
    """How much the clean copy's answer differs from the others', in [0, 1]; None without `include_clean`."""
    suspicious: bool | None = None
    """Whether `suspicion` is above `vote.suspicion_threshold`; None without one of them."""
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
    usage: Usage | None = None
    """Summed over the samples."""
    timings: dict[str, float] = {}
    """Seconds by stage: `scan`, `perturb`, `model`, `vote` (embedding included), `total`."""
    num_calls: int
    """Number of model calls."""


class GuardResult(GuardRecord):
    """The answer of one guarded call and the evidence for it."""

    answer: AIMessage
    """The elected message, with its tool calls and metadata."""
    seed: int | None = None
    """Seed that repeats this call's noise."""

    def to_metadata(self) -> dict[str, Any]:
        """Return everything but the answer as plain JSON values, as `GuardRecord` describes it.

        The seed is left out: a reader of one answer's metadata must not learn the noise of the next one. Failures are
        reduced to their type, since parsers and providers quote answers and requests in their messages.
        """
        record = self.model_dump(mode="json", exclude={"answer", "seed"}, exclude_none=True)
        for sample in record["samples"]:
            if "error" in sample:
                sample["error"] = sample["error"].partition(":")[0]
        return record


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a record, equal to the package's `record.schema.json`.

    Example:
        >>> record_schema()["properties"]["schema_version"]["const"]
        1
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **GuardRecord.model_json_schema(),
        "title": "The record of a call that SmoothGuard guarded",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedRequest:
    """One noisy copy of a request."""

    messages: list[BaseMessage]
    """The request with every medium perturbed, in the shape in which it came."""
    media: tuple[Medium, ...]
    """What was done to each medium, including those that were dropped and passed."""


class NoiseCertificate(_Record):
    """How far the images of a request may be changed without changing the class of the smoothed model's answer.

    `str()` states it in words, with what it does not mean.
    """

    answer_class: str
    certified: bool
    """False: too few answers are of one class to certify anything."""
    radius: float
    """L2 norm, over all images together, of the largest change that is certified: in units of `noise_space`, at the
    size at which the noise is added; 0 if nothing is certified."""
    count: int
    """Answers of the class among those that were counted."""
    num_counted: int
    num_calls: int
    lower_bound: float
    """Lower confidence bound of the class's probability."""
    alpha: float
    """Probability that the certificate is wrong, over the draws of the noise."""
    sigma: float
    noise_space: Literal["pixel", "normalized"]

    def __str__(self) -> str:
        if not self.certified:
            return (
                f"Not certified: {self.count} of {self.num_counted} answers to noisy copies are of class"
                f" {self.answer_class!r}, too few to be sure that most would be."
            )
        return (
            f"Certified, with confidence {1 - self.alpha:g}: for any change of the images with an L2 norm below"
            f" {self.radius:.3g} ({self.noise_space} values), most answers to noisy copies are of class"
            f" {self.answer_class!r}. It does not cover changes that are small at each pixel but touch all of them,"
            " such as 16/255 everywhere, whose norm is far larger; it is about the class only, and not about one call's"
            " vote."
        )


class PatchCertificate(_Record):
    """Whether any patch of a size, anywhere in the image, could change the class that `decide_with_windows` finds."""

    answer_class: str
    certified: bool
    patch_size: tuple[int, int]
    """Height and width in pixels of the largest patch, at the size at which the guard perturbs images."""
    num_windows: int
    num_calls: int

    def __str__(self) -> str:
        height, width = self.patch_size
        if not self.certified:
            return f"Not certified: the answer depends on which of {self.num_windows} windows are covered."
        return (
            f"Certified: whatever one patch of up to {height} x {width} pixels shows, and wherever it is, the decision"
            f" over covered windows is of class {self.answer_class!r}. It assumes that the model gives the same answer"
            " to the same image, and says nothing about two patches or about changes outside of one."
        )


class PatchDecision(_Record):
    """A decision over covered windows."""

    answer_class: str
    answer: AIMessage
    num_calls: int
