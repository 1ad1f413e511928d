"""Reports on disk.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from smoothguard_guardrail.evaluation.report import Report, write_report
    >>> report = Report(title="A study", summary=("Nothing was found.",), sections=(), environment={})
    >>> page, data = write_report(report, Path(tempfile.mkdtemp()))
    >>> page.name, Report.model_validate_json(data.read_bytes()) == report
    ('report.html', True)
"""

from __future__ import annotations

from pathlib import Path

from smoothguard_guardrail.evaluation.report.content import Report
from smoothguard_guardrail.evaluation.report.page import render_html


def write_report(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write `report.html`, for readers, and `report.json`, for programs, and return their paths.

    The folder is made where it is missing; what stood in these files is replaced.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / "report.html", folder / "report.json"
    page.write_text(render_html(report), encoding="utf-8", newline="\n")
    data.write_text(f"{report.model_dump_json(indent=2)}\n", encoding="utf-8", newline="\n")
    return page, data
