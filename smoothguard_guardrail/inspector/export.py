"""What is on the screen as one HTML file that needs nothing else, and the record as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from smoothguard_guardrail import __version__
from smoothguard_guardrail.evaluation.report.page import own_text, template_environment

if TYPE_CHECKING:
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.inspector.run import GuardedRun
    from smoothguard_guardrail.result import GuardResult


def page_style() -> Markup:
    """Return the style of everything that `views` renders."""
    return own_text("smoothguard_guardrail.evaluation.report", "palette.css") + own_text(__package__, "inspector.css")


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
    return (
        template_environment(__package__)
        .get_template("page.html.jinja")
        .render(
            title=title,
            sections=sections,
            record=json.dumps(record, indent=2, ensure_ascii=False),
            style=page_style(),
            version=__version__,
        )
    )
