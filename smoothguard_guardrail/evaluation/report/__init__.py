"""Reports: what was measured, as one self-contained HTML file and as JSON."""

from smoothguard_guardrail.evaluation.report.content import (
    Answers,
    Case,
    ClusterMap,
    Curve,
    Point,
    Report,
    Section,
    Series,
    Table,
)
from smoothguard_guardrail.evaluation.report.maps import cluster_map, principal_places
from smoothguard_guardrail.evaluation.report.page import render_html
from smoothguard_guardrail.evaluation.report.pictures import difference_uri, picture_uri
from smoothguard_guardrail.evaluation.report.writing import write_report

__all__ = [
    "Answers",
    "Case",
    "ClusterMap",
    "Curve",
    "Point",
    "Report",
    "Section",
    "Series",
    "Table",
    "cluster_map",
    "difference_uri",
    "picture_uri",
    "principal_places",
    "render_html",
    "write_report",
]
