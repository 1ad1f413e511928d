"""What a report holds: plain values, which JSON keeps whole."""

from __future__ import annotations

from pydantic import JsonValue

from smoothguard_guardrail.evaluation.records import Record
from smoothguard_guardrail.evaluation.statistics import Rate

Cell = Rate | float | int | str | None


class Table(Record):
    """Rows of cells under a heading; rates are shown with their interval."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Point(Record):
    """One point of a curve: a rate with its interval, or a plain number."""

    x: float
    y: Rate | float


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
    note: str = ""


class ClusterMap(Record):
    """Where the answers to one item lie, on the first two principal components of their embeddings."""

    title: str
    places: tuple[tuple[float, float], ...]
    """x and y of each wording."""
    texts: tuple[str, ...]
    counts: tuple[int, ...]
    """How often each wording was given."""
    labels: tuple[int, ...]
    """Cluster of each wording."""
    winner: int | None
    """Label of the elected cluster."""


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
    pictures: dict[str, str]
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
    environment: dict[str, JsonValue]
    """Everything that repeats it: versions, seeds, model and its revision, configurations, command."""
