"""What benchmarks ask, and what models answered."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, JsonValue, field_validator

from smoothguard_guardrail.evaluation.records import Record


class Item(Record):
    """One question of a benchmark."""

    id: str
    """Unique within the benchmark, such as `adversarial/17`: answers are joined by it."""
    question: str
    """What the model is asked, word for word."""
    media: tuple[Path, ...] = ()
    """Image or audio files that go before the question, in order."""
    category: str = ""
    """What scores are grouped by, such as `popular` or `09-Privacy_Violence`."""
    label: str | None = None
    """The right answer, where there is one, such as `yes` or `2`."""
    details: dict[str, JsonValue] = Field(default_factory=dict)
    """Anything else that scoring needs."""


class Answer(Record):
    """The answer to one item in one arm."""

    item_id: str
    text: str = ""
    """Empty where the call failed."""
    error: str | None = None
    """Type and message of the failure; None when there is an answer."""
    num_calls: int = 1
    """Number of model calls."""
    record: dict[str, JsonValue] | None = None
    """`GuardResult.to_metadata()`, texts of the samples included; None without a guard."""

    @field_validator("text", "error", "record")
    @classmethod
    def _check(cls, value: JsonValue) -> JsonValue:
        return _encodable(value)


def _encodable(value: JsonValue) -> JsonValue:
    """Replace lone surrogates, which JSON can express and UTF-8 files cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, list) else value
