"""What a report holds: plain values, which JSON keeps whole."""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import AfterValidator, Field, FiniteFloat, JsonValue, StringConstraints, model_validator

from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import Rate

Cell = Rate | FiniteFloat | int | str | None
"""None where there is nothing to compute it from: JSON has no NaN."""
PngUri = Annotated[str, StringConstraints(pattern=r"^data:image/png;base64,iVBORw0KGgo[A-Za-z0-9+/]{21,}={0,2}$")]
"""A PNG file, and nothing that a browser would fetch or run."""


def _finite(value: JsonValue) -> JsonValue:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        _finite(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no JSON: write None, or a word")
    return value


FiniteJson = Annotated[JsonValue, AfterValidator(_finite)]


class Table(Record):
    """Rows of cells under a heading; rates are shown with their interval."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells does not fit {len(self.columns)} columns: {row}")
        return self


class Point(Record):
    """One point of a curve: a rate with its interval, or a plain number."""

    x: FiniteFloat
    y: Rate | FiniteFloat


class Series(Record):
    """One line of a curve."""

    name: str
    points: tuple[Point, ...]


class Curve(Record):
    """Lines over a common axis, with intervals where points are rates."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    """Whether the horizontal axis is logarithmic; 0 has a place at its left end."""
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.log_x and any(point.x < 0 for series in self.series for point in series.points):
            raise ValueError("a logarithmic axis has no place for values below 0")
        return self


class ClusterMap(Record):
    """Where the answers to one item lie, on the first two principal components of their embeddings."""

    title: str
    places: tuple[tuple[FiniteFloat, FiniteFloat], ...]
    """x and y of each wording."""
    texts: tuple[str, ...]
    counts: tuple[Annotated[int, Field(ge=1)], ...]
    """How often each wording was given."""
    labels: tuple[int, ...]
    """Cluster of each wording."""
    winner: int | None
    """Label of the elected cluster."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.places) == len(self.texts) == len(self.counts) == len(self.labels):
            raise ValueError("every wording has one place, one text, one count and one label")
        return self


class Answers(Record):
    """What one arm answered to a case."""

    arm: str
    answer: str
    samples: tuple[str, ...] = ()
    """The N answers that were voted on."""
    verdict: str = ""
    """In a few words, as `told the secret`."""


class Case(Record):
    """One item, with its pictures and every arm's answers."""

    title: str
    question: str
    pictures: dict[str, PngUri]
    """Data URIs of PNG files by caption, as `original`, `adversarial`, `difference, times 4`, `one noisy copy`."""
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
    """Paragraphs that say in plain words what was found, where the guard loses included."""
    sections: tuple[Section, ...]
    environment: dict[str, FiniteJson]
    """Everything that repeats it: versions, seeds, model and its revision, configurations, command."""
