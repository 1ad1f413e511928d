"""Reports: measurements as one self-contained HTML file and as JSON."""

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
    days,
)
from smoothguard_guardrail.evaluation.report.images import difference_uri, image_uri
from smoothguard_guardrail.evaluation.report.page import render_html, write_report
from smoothguard_guardrail.evaluation.report.projection import cluster_map, project_answers

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
    "days",
    "difference_uri",
    "image_uri",
    "project_answers",
    "render_html",
    "write_report",
]
