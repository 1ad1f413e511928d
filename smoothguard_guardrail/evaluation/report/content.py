"""What a report contains: plain values that JSON keeps exactly."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, JsonValue, StringConstraints, model_validator

from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import Rate

Cell = Rate | FiniteFloat | int | str | None
"""None if there is nothing to compute it from: JSON has no NaN."""
PngUri = Annotated[str, StringConstraints(pattern=r"^data:image/png;base64,iVBORw0KGgo[A-Za-z0-9+/]{21,}={0,2}$")]
"""A PNG file as a data URI: nothing that a browser would fetch or run."""


def _finite(value: JsonValue) -> JsonValue:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        _finite(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a JSON value, got {value}: write None, or a word")
    return value


FiniteJson = Annotated[JsonValue, AfterValidator(_finite)]


class Table(Record):
    """Rows of cells; the first cell names the row, and rates are shown with their interval."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"expected {len(self.columns)} cells, one per column, got {len(row)}: {row}")
        return self


class Point(Record):
    """One point of a curve: a rate with its interval, or a plain number."""

    x: FiniteFloat
    y: Rate | FiniteFloat


def days(moment: datetime) -> float:
    """Return a time as the x of a point.

    Example:
        >>> days(datetime.fromisoformat("1970-01-02T12:00Z"))
        1.5
    """
    return moment.timestamp() / 86400


class Series(Record):
    """One line of a curve."""

    name: str
    points: tuple[Point, ...]
    is_line: bool = True
    """Whether the points are joined; False: they are alternatives, not steps."""


class Curve(Record):
    """Lines over a common axis, with intervals where points are rates."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    """Whether the horizontal axis is logarithmic; 0 is shown at its left end."""
    x_is_time: bool = False
    """Whether x is a time: days since 1970 in UTC, see `days`."""
    style: Literal["lines", "bars"] = "lines"
    """`bars`: one stack of bars at every x; its values are plain numbers."""
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.log_x and any(point.x < 0 for series in self.series for point in series.points):
            raise ValueError("expected x values from 0 up on a logarithmic axis, got one below 0")
        return self


class ClusterMap(Record):
    """The answers to one item on the first two principal components of their embeddings."""

    title: str
    positions: tuple[tuple[FiniteFloat, FiniteFloat], ...]
    """x and y of each distinct wording."""
    texts: tuple[str, ...]
    counts: tuple[Annotated[int, Field(ge=1)], ...]
    """How often each wording was given."""
    labels: tuple[int, ...]
    """Cluster of each wording."""
    winner: int | None
    """Label of the elected cluster; None if none was elected."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.positions) == len(self.texts) == len(self.counts) == len(self.labels):
            raise ValueError("expected one position, text, count and label per wording")
        return self


class Answers(Record):
    """What one arm answered to a case."""

    arm: str
    answer: str
    samples: tuple[str, ...] = ()
    """The answers that were voted on."""
    verdict: str = ""
    """A few words, such as `leaked the secret`."""


class Case(Record):
    """One item, with its images and every arm's answers."""

    title: str
    question: str
    images: dict[str, PngUri]
    """Data URIs of PNG files by caption, such as `original`, `adversarial`, `difference, times 4`, `one noisy copy`."""
    answers: tuple[Answers, ...]


class Section(Record):
    """A part of a report; its contents are shown in the order of the fields."""

    title: str
    text: tuple[str, ...] = ()
    """Paragraphs; `*emphasis*`, `**strong**` and `` `code` `` are the only markup."""
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()
    maps: tuple[ClusterMap, ...] = ()
    cases: tuple[Case, ...] = ()


class Report(Record):
    """A whole report."""

    title: str
    summary: tuple[str, ...]
    """Paragraphs that say in plain words what was found, including where the guard loses."""
    sections: tuple[Section, ...]
    environment: dict[str, FiniteJson]
    """Everything needed to repeat it: versions, seeds, model and revision, configurations, command."""
