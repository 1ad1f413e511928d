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

__all__ = ["Answers", "Case", "ClusterMap", "Curve", "Point", "Report", "Section", "Series", "Table"]
