"""The lines of the safety log: `VerdictLine` if the guard decided, `FailureLine` if it could not.

When you change a field, update `observability/safety_log/safety_log.schema.json`; if the old field was released, raise
`SCHEMA_VERSION`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from smoothguard_guardrail.errors import AbstainedError
from smoothguard_guardrail.result import Action, Cluster, GuardResult, Medium, Reason, Usage, Verdict, VotePolicy

SCHEMA_VERSION = 1

_MAX_CHARS = 256
_MAX_ITEMS = 64
_MAX_DEPTH = 4


class _Line(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1]
    id: str
    """Of this guarded call; no two lines share it."""
    time: AwareDatetime
    """When the call ended."""
    version: str
    """Of the package."""
    settings_hash: str | None = None
    """`SmoothGuardConfig.settings_hash` of the guard."""
    settings: dict[str, Any] = {}
    """Settings that are not the defaults of `version`, without the seed: `SmoothGuardConfig(**settings)` is the whole
    configuration."""
    components: dict[str, str] | None = None
    """Parts of the user's own, as `{"voter": "module.Voter"}`; null without any."""
    run_id: UUID
    """Of the LangChain run that the guard worked in."""
    parent_run_id: UUID | None = None
    trace_id: UUID | None = None
    """Of the run's trace in LangSmith; null where LangSmith does not trace it."""
    tags: tuple[str, ...] = ()
    """Of the run, inherited ones included."""
    metadata: dict[str, Any] = {}
    """Of the run: numbers and short texts as they were, everything else by its type."""
    num_calls: int | None = None
    """How often the model was asked; null when the guard failed before it knew."""
    failures: tuple[str, ...] = ()
    """Type of the exception of every model call that failed."""
    timings: dict[str, float] = {}
    """Seconds by stage, and `total`."""

    def to_json(self) -> str:
        """Return the line without its line end."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), ensure_ascii=False, separators=(",", ":"))


class VerdictLine(_Line):
    """The guard decided."""

    event: Literal["verdict"]
    verdict: Verdict
    action: Action
    """What the caller got: the model's answer, a refusal, or the answer to a request without media (`skipped`)."""
    reason: Reason | None = None
    """What decided."""
    withheld: bool = False
    """Whether `vote.refusal_text` replaced the elected answer."""
    policy: VotePolicy | None = None
    """The settings that the vote followed."""
    agreement: float = Field(ge=0, le=1)
    """Share of the answers that are in the winning cluster."""
    suspicion: float | None = Field(default=None, ge=0, le=1)
    """How much the clean copy's answer differs from the others'; null when no clean copy answered."""
    suspicious: bool | None = None
    """Whether `suspicion` is above `vote.suspicion_threshold`; null without one of them."""
    clean_overruled: bool | None = None
    """Whether the clean copy's answer lost the vote; null when no clean copy answered."""
    clusters: tuple[Cluster, ...] = ()
    winner: int | None = None
    """Label of the winning cluster."""
    media: tuple[Medium, ...] = ()
    """What the request held and what was done to it; hashes, never the media."""
    sigma: float | None = None
    """Sd of the noise, in units of `noise_space`."""
    noise_space: Literal["pixel", "normalized"] | None = None
    usage: Usage | None = None
    """Tokens, summed over the samples."""
    answer: str | None = None
    """The elected answer, when texts were asked for."""
    answers: tuple[str | None, ...] | None = None
    """Every sample's answer, when texts were asked for and `record_samples` is on; null for calls that failed."""


class FailureLine(_Line):
    """The guard could not do its work, and the caller got an exception."""

    event: Literal["failure"]
    error: str
    """Type of the exception."""
    message: str | None = None
    """In the guard's own words; other libraries' messages, which may quote an answer, when texts were asked for."""
    path: str | None = None
    """Where the medium stands that could not be guarded, as `messages[0].content[1]`."""


Line = VerdictLine | FailureLine
LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="event")])


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a line, equal to `observability/safety_log/safety_log.schema.json`.

    Example:
        >>> sorted(json_schema()["$defs"])[:2]
        ['Cluster', 'FailureLine']
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of the SmoothGuard safety log",
        **LINE.json_schema(mode="serialization"),
    }


def line_from_event(
    name: str,
    data: Mapping[str, Any],
    *,
    run_id: UUID,
    parent_run_id: UUID | None = None,
    tags: list[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    outcome: GuardResult | Exception | None = None,
    settings: Mapping[str, Any] | None = None,
    trace_id: UUID | None = None,
    include_texts: bool = False,
) -> Line:
    """Return the log line for one of the guard's events.

    Raises:
        pydantic.ValidationError: If the data does not fit the event.
    """
    from smoothguard_guardrail._langchain.events import FAILURE_EVENT  # loads tracers, which readers of logs don't need

    failed = name == FAILURE_EVENT
    run = {
        "schema_version": SCHEMA_VERSION,
        "event": "failure" if failed else "verdict",
        "id": data.get("id") or str(uuid4()),
        "time": datetime.now(UTC),
        "run_id": run_id,
        "parent_run_id": parent_run_id,
        "trace_id": trace_id,
        "settings": dict(settings or {}),
        "tags": [_plain(tag) for tag in tags or []],
        "metadata": _plain(dict(metadata or {})),
    }
    kind = FailureLine if failed else VerdictLine
    figures = {key: value for key, value in data.items() if key in kind.model_fields}
    if not failed:
        figures["failures"] = [sample["error"] for sample in data.get("samples", ()) if "error" in sample]
    texts = _texts(outcome) if include_texts else {}
    return kind(**figures | run | texts)


def _texts(outcome: GuardResult | Exception | None) -> dict[str, Any]:
    if isinstance(outcome, AbstainedError):
        outcome = outcome.result
    if isinstance(outcome, GuardResult):
        texts = [sample.text for sample in outcome.samples]
        return {"answer": str(outcome.answer.text), "answers": texts if any(texts) else None}
    return {"message": str(outcome)} if outcome else {}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value as short, plain JSON: a run's metadata may hold anything, media included."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, str):
        return value if len(value) <= _MAX_CHARS else value[: _MAX_CHARS - 1] + "…"
    if isinstance(value, float | UUID | datetime):
        return str(value)
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        items = list(value.items())[:_MAX_ITEMS]
        return {_plain(str(key)): _plain(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple) and depth < _MAX_DEPTH:
        return [_plain(item, depth + 1) for item in value[:_MAX_ITEMS]]
    return f"<{type(value).__name__}>"
