"""The page: one HTML file that asks for nothing else, runs no script and is read with any browser, offline.

Example:
    >>> from smoothguard_guardrail.evaluation import Rate
    >>> from smoothguard_guardrail.evaluation.report import Report, Section, Table, render_html
    >>> table = Table(title="Attacks that succeed", columns=("arm", "rate"), rows=(("guarded", Rate(k=1, n=40)),))
    >>> report = Report(
    ...     title="A study",
    ...     summary=("The guard *halves* the rate.",),
    ...     sections=(Section(title="Attacks", tables=(table,)),),
    ...     environment={"seed": 0},
    ... )
    >>> render_html(report).startswith("<!doctype html>")
    True
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Final, TypeVar

from smoothguard_guardrail.evaluation.report.cases import case
from smoothguard_guardrail.evaluation.report.content import Report, Section
from smoothguard_guardrail.evaluation.report.curves import curve
from smoothguard_guardrail.evaluation.report.maps import drawn_map
from smoothguard_guardrail.evaluation.report.markup import Html, element, marked_up
from smoothguard_guardrail.evaluation.report.tables import table

T = TypeVar("T")

READING: Final = (
    "Rates read `k/n = share (interval)`; intervals, bands and whiskers are Wilson's, at 95 %."
    " A dash stands where nothing was counted. Answers are shown word for word; characters that hide are shown by"
    " number."
)
MAP_READING: Final = (
    "A disc is one wording, its area how often it was given, its colour its cluster; the elected cluster's discs have"
    " a rim. Places are the first two principal components of the wordings' embeddings: near is alike."
)


def render_html(report: Report) -> str:
    """Return a report as one self-contained HTML file.

    A policy in its head forbids the browser to load or run anything; texts are escaped, whoever wrote them.
    """
    style = Html(resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8"))
    sections = [_section(section, f"s{number}") for number, section in enumerate(report.sections, start=1)]
    body = element(
        "body",
        element("a", "Skip to the report", href="#report", class_="skip"),
        element("header", element("h1", report.title), class_="title"),
        _contents(report),
        element("main", _summary(report), *sections, _environment(report), id="report", tabindex="-1"),
    )
    return f"<!doctype html>\n{element('html', _head(report.title, style), body, lang='en')}\n"


def _head(title: str, style: Html) -> Html:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        element("meta", name_="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", style),
    )


def _contents(report: Report) -> Html:
    titles = [
        ("summary", "Summary"),
        *((f"s{number}", section.title) for number, section in enumerate(report.sections, start=1)),
        ("environment", "Environment"),
    ]
    links = (element("li", element("a", title, href=f"#{key}")) for key, title in titles)
    return element("nav", element("h2", "Contents"), element("ol", *links), aria_label="Contents")


def _summary(report: Report) -> Html:
    return element(
        "section",
        element("h2", "Summary", id="summary-title"),
        *_paragraphs(report.summary),
        element("p", marked_up(READING), class_="note"),
        id="summary",
        aria_labelledby="summary-title",
    )


def _section(content: Section, key: str) -> Html:
    return element(
        "section",
        element("h2", content.title, id=f"{key}-title"),
        *_paragraphs(content.text),
        *_each(table, content.tables, f"{key}-table"),
        _grid(_each(curve, content.curves, f"{key}-curve")),
        element("p", MAP_READING, class_="note") if content.maps else None,
        _grid(_each(drawn_map, content.maps, f"{key}-map")),
        *_each(case, content.cases, f"{key}-case"),
        id=key,
        aria_labelledby=f"{key}-title",
    )


def _paragraphs(texts: Sequence[str]) -> Iterator[Html]:
    return (element("p", marked_up(text)) for text in texts)


def _each(render: Callable[[T, str], Html], contents: Sequence[T], key: str) -> list[Html]:
    return [render(content, f"{key}{number}") for number, content in enumerate(contents, start=1)]


def _grid(figures: Sequence[Html]) -> Html | None:
    return element("div", *figures, class_="drawings") if figures else None


def _environment(report: Report) -> Html:
    from smoothguard_guardrail import __version__

    listing = json.dumps(report.environment, indent=2, ensure_ascii=False)
    return element(
        "section",
        element("h2", "Environment", id="environment-title"),
        element("p", f"What it takes to repeat this. Written by smoothguard-guardrail {__version__}."),
        element(
            "details",
            element("summary", "Versions, seeds, model, configurations, command"),
            element("pre", element("code", listing), tabindex="0"),
        ),
        id="environment",
        aria_labelledby="environment-title",
    )
