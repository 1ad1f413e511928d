"""What is on the screen as one HTML file that needs nothing else, and the record as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from smoothguard_guardrail import __version__
from smoothguard_guardrail.evaluation.report.page import template_environment

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.inspector.run import GuardedRun
    from smoothguard_guardrail.result import GuardResult


def page_style() -> str:
    """Return the style of everything that `views` renders."""
    return resources.files(__package__).joinpath("templates/inspector.css").read_text(encoding="utf-8")


def run_record(model: str, run: GuardedRun, result: GuardResult, config: SmoothGuardConfig) -> dict[str, Any]:
    """Return a run as plain JSON values: the question, every answer, the vote, and all settings.

    Args:
        model: Name of the model.
        run: The run.
        result: Of the vote that is shown.
        config: Of that vote.
    """
    return {
        "model": model,
        "question": run.question,
        "answer": str(result.answer.text),
        **result.to_metadata(),
        "seed": result.seed,
        "num_bytes": run.num_bytes,
        "config": config.model_dump(mode="json"),
        "version": __version__,
    }


def render_page(title: str, sections: Mapping[str, Markup], record: Mapping[str, Any]) -> str:
    """Return one self-contained HTML file; a content security policy forbids it to load or run anything.

    Args:
        title: Of the page.
        sections: By heading, what `views` rendered.
        record: Plain JSON values, shown at the end.
    """
    style = page_style()
    return (
        template_environment(__package__)
        .get_template("page.html.jinja")
        .render(
            title=title,
            sections=sections,
            record=json.dumps(record, indent=2, ensure_ascii=False),
            style=Markup(style),  # noqa: S704 - the package's own file
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            version=__version__,
        )
    )
