"""The demo as one HTML file: every image, the attack's change, the copies, the answers and the vote."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.inspector.export import render_page
from smoothguard_guardrail.inspector.medium_view import amplification_of, image_uri
from smoothguard_guardrail.inspector.run import record
from smoothguard_guardrail.inspector.views import render_macro, render_run
from smoothguard_guardrail.models.reference.demo import DEMO_DIR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel
    from markupsafe import Markup

    from smoothguard_guardrail.cli.demo import Outcome
    from smoothguard_guardrail.config import SmoothGuardConfig
    from smoothguard_guardrail.models.reference.demo import DemoPicture


def save_page(
    folder: Path, model: BaseChatModel, config: SmoothGuardConfig, found: Sequence[Outcome], summary: str
) -> Path:
    """Write `demo.html` and return its path. It loads nothing else; maps of the answers need matplotlib.

    Args:
        folder: Created if missing.
        model: Asked again for each image, to record what it saw.
        config: With a seed, so that it sees the same copies again.
        found: The outcomes.
        summary: One line about them.
    """
    sections = {
        f"{outcome.picture.question} ({outcome.picture.name})": _section(model, config, outcome) for outcome in found
    }
    record_of_demo = {"summary": summary, "config": config.model_dump(mode="json")}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "demo.html"
    path.write_text(render_page("SmoothGuard demo", sections, record_of_demo), encoding="utf-8")
    return path


def _section(model: BaseChatModel, config: SmoothGuardConfig, outcome: Outcome) -> Markup:
    *_, run = record(model, [outcome.picture.message()], config)
    picture = outcome.picture
    sides = [
        (name, [{"image": picture.file, "text": text, **_judged(picture, text)}])
        for name, text in (("Guard off", outcome.unguarded), ("Guard on", outcome.guarded))
    ]
    compared = render_macro("attack", images=_images(picture), curve=None, loss="", sides=sides)
    with_map = importlib.util.find_spec("matplotlib") is not None
    return compared + render_run(run, key=picture.name, with_map=with_map)


def _images(picture: DemoPicture) -> list[tuple[str, str, str]]:
    """Return name, data URI and note of the image, and of what an attack changed."""
    shown = read_image(DEMO_DIR / picture.file)
    if picture.original is None:
        return [("clean", image_uri(shown), "not attacked")]
    original = read_image(DEMO_DIR / picture.original)
    change = shown - original
    amplification = amplification_of(change)
    return [
        ("original", image_uri(original), "before the attack"),
        ("attacked", image_uri(shown), f"at most {picture.epsilon}/255 per value"),
        ("difference", image_uri(0.5 + amplification * change), f"× {amplification:g}, around grey"),
    ]


def _judged(picture: DemoPicture, answer: str) -> dict[str, Any]:
    if picture.is_hit(answer):
        return {"note": "the attack succeeded", "kind": "bad"}
    return {"note": "right", "kind": "good"} if picture.is_right(answer) else {"note": "wrong", "kind": "stopped"}
