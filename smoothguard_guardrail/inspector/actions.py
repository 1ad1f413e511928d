"""What the page's buttons and sliders do: each action yields what to show."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from smoothguard_guardrail._internal.times import parse_time
from smoothguard_guardrail.attacks import AttackProgress
from smoothguard_guardrail.config import SmoothGuardConfig
from smoothguard_guardrail.core.model_info import ModelInfo
from smoothguard_guardrail.core.model_input import ModelInput
from smoothguard_guardrail.errors import ConfigurationError, InputError, SmoothGuardError
from smoothguard_guardrail.evaluation.input_media import read_image
from smoothguard_guardrail.evaluation.shared import resolve_model
from smoothguard_guardrail.inspector.attack import AttackedRun, AttackPlan, attack, render_attack, render_progress
from smoothguard_guardrail.inspector.export import render_page, run_record
from smoothguard_guardrail.inspector.log_page import log_page
from smoothguard_guardrail.inspector.medium_view import original_view
from smoothguard_guardrail.inspector.patches import PatchMap, map_patches, render_patches
from smoothguard_guardrail.inspector.run import GuardedRun, record, replay
from smoothguard_guardrail.inspector.settings import PageSettings
from smoothguard_guardrail.inspector.views import render_macro, render_message, render_run
from smoothguard_guardrail.media import prepare
from smoothguard_guardrail.media.files import request_from_files
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.observability.safety_log.filters import LineFilter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import HumanMessage

    from smoothguard_guardrail.result import GuardResult

_SECONDS_BETWEEN_UPDATES = 0.15
ASKED, ATTACKED, PATCHED = "Guarded question", "Attack", "Hidden patches"
"""Headings of the exported file."""


@dataclass(slots=True, kw_only=True)
class Shown:
    """What one visitor has on the screen.

    Actions change it in place: a visitor may start one while another is under way, and a copy that an action took at
    its start would undo what the other has changed since.
    """

    run: GuardedRun | None = None
    result: GuardResult | None = None
    config: SmoothGuardConfig | None = None
    """Of the vote that is shown."""
    sections: dict[str, Markup] = field(default_factory=dict)
    """By heading."""
    stop: Event | None = None
    """Ends the latest question, attack or map."""

    def show(self, run: GuardedRun, result: GuardResult, config: SmoothGuardConfig, html: Markup) -> None:
        """Keep a run and a vote on it."""
        self.run, self.result, self.config = run, result, config
        self.sections[ASKED] = html

    def clear(self) -> None:
        """Forget the run and the votes on it."""
        self.run = self.result = self.config = None
        self.sections.pop(ASKED, None)

    def start(self) -> Event:
        """Return what ends the question, attack or map that starts now."""
        self.stop = Event()
        return self.stop


class Actions:
    """What a page can do with one model; what takes what is on the screen changes it, and yields HTML.

    Args:
        model: The model.
        name: Its name.
        config: The guard's configuration before anything is changed on the page.
        logs: Safety logs that the page may show.
        folder: For exported files; None: the system's, for temporary files.
    """

    def __init__(
        self,
        model: BaseChatModel,
        name: str,
        config: SmoothGuardConfig,
        *,
        logs: Sequence[Path] = (),
        folder: Path | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.config = config
        self.logs: tuple[Path, ...] = tuple(logs)
        self._folder = folder

    def preview(self, shown: Shown, files: Sequence[str] | None) -> Iterator[str]:
        """Show what was uploaded as the guard decodes it, in place of the last run."""
        html = render_macro("welcome")
        if files:
            sizing = ModelInput(config=self.config, model_info=ModelInfo.find(self.model))
            media = prepare([_request(files, "?")], self.config.media, sizing).media
            html = render_run(GuardedRun(question="", config=self.config, originals=tuple(map(original_view, media))))
        shown.clear()
        yield html

    def ask(self, shown: Shown, files: Sequence[str] | None, question: str, settings: PageSettings) -> Iterator[str]:
        """Ask through the guard, and show every copy and answer as it comes."""
        config = settings.apply(self.config)
        run = GuardedRun(question=question, config=config)
        for run in _spaced(record(self.model, [_request(files, question)], config, stop=shown.start())):
            if run.result is None:
                yield render_run(run)
        if run.result is None:
            shown.clear()
            html = render_run(replace(run, stopped=True), notice="Stopped: no more calls are made.")
            shown.sections[ASKED] = html
        else:
            html = render_run(run, early_calls=_early_calls(run, config, self.config))
            shown.show(run, run.result, config, html)
        yield html

    def stop(self, shown: Shown) -> None:
        """Stop what is under way: no further call or step starts, those under way cannot be taken back."""
        if shown.stop is not None:
            shown.stop.set()

    def vote_again(self, shown: Shown, settings: PageSettings) -> Iterator[str]:
        """Vote again on the answers that are there, or say that the settings need a new run."""
        if shown.run is None or shown.run.result is None:
            return
        config = settings.apply(self.config)
        try:
            result = replay(shown.run, config)
        except ConfigurationError as error:
            notice = f"This needs a new run: {error}. What is shown is the last run."
            yield render_run(shown.run, shown.result, config=shown.config, notice=notice)
            return
        notice = f"Voted again on the {len(shown.run.outcomes)} answers that are there; the model was not asked."
        early = _early_calls(shown.run, config, self.config)
        html = render_run(shown.run, result, config=config, notice=notice, early_calls=early)
        shown.show(shown.run, result, config, html)
        yield html

    def attack(
        self,
        shown: Shown,
        files: Sequence[str] | None,
        question: str,
        settings: PageSettings,
        start: str | None,
        target: str,
        epsilon: float,
        num_steps: float,
        knows_guard: bool,
    ) -> Iterator[str]:
        """Attack the reference model, and compare its answers without and with the guard.

        It starts at `start`, the clean image of an attacked example, or at the one file.
        """
        if start is None and len(files or ()) != 1:
            raise InputError("an attack needs exactly one image")
        model = self.model if self.name == "reference" else resolve_model("reference")
        if not isinstance(model, ChatTransformersMultimodal):
            raise InputError("an attack needs a local model")
        config = settings.apply(self.config) if model is self.model else SmoothGuardConfig.reference()
        plan = AttackPlan(
            image=read_image(Path(start or (files or [""])[0])),
            question=question,
            target=target,
            epsilon=int(epsilon),
            num_steps=int(num_steps),
            knows_guard=knows_guard,
            seed=config.seed,
        )
        found = None
        for found in _spaced(attack(model, config, plan, shown.start())):
            if isinstance(found, AttackProgress):
                yield render_progress(found)
        if not isinstance(found, AttackedRun):
            yield render_message("Stopped: the attack was not finished.")
            return
        shown.sections[ATTACKED] = html = render_attack(found)
        yield html

    def hide_patches(
        self,
        shown: Shown,
        files: Sequence[str] | None,
        question: str,
        settings: PageSettings,
        patch: float,
        per_axis: float,
    ) -> Iterator[str]:
        """Hide every window of the image, and show where that changes the answer."""
        config = settings.apply(self.config)
        request = [_request(files, question)]
        found = None
        windows = map_patches(self.model, request, config, patch=patch, per_axis=int(per_axis), stop=shown.start())
        for found in _spaced(windows):
            if isinstance(found, GuardedRun):
                done, total = sum(each is not None for each in found.outcomes), found.config.num_samples
                yield render_macro("progress", text=f"{done} of {total} answers", done=done, total=total)
        if not isinstance(found, PatchMap):
            yield render_message("Stopped: a map needs every answer.")
            return
        shown.sections[PATCHED] = html = render_patches(found)
        yield html

    def read_log(self, since: str, until: str, verdict: str | None, tag: str, client: str, call: str) -> Iterator[str]:
        """Show the safety logs' calls that these filters let pass; an empty one lets all pass."""
        chosen = LineFilter(
            since=parse_time("Since", since.strip() or None),
            until=parse_time("Until", until.strip() or None),
            verdict=verdict or None,
            tag=tag.strip() or None,
            client=client.strip() or None,
            id=call.strip() or None,
        )
        html, _ = log_page(self.logs, chosen)
        yield render_macro("log", page=escape(html))

    def export(self, shown: Shown) -> list[str]:
        """Write what is on the screen as HTML, and the record as JSON; returns the paths."""
        if not shown.sections:
            raise InputError("there is nothing to export yet: ask a question first")
        known = shown.run and shown.result and shown.config
        values = run_record(self.name, shown.run, shown.result, shown.config) if known else {"model": self.name}  # type: ignore[arg-type]
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        html, data = folder / "smoothguard.html", folder / "smoothguard.json"
        html.write_text(render_page(f"SmoothGuard: {self.name}", shown.sections, values), encoding="utf-8")
        data.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
        return [str(html), str(data)]


def failure_message(error: Exception) -> str:
    """Return HTML that says what went wrong."""
    text = str(error) if isinstance(error, SmoothGuardError) else f"{type(error).__name__}: {error}"
    return render_message(text, "stopped")


def _request(files: Sequence[str] | None, question: str) -> HumanMessage:
    if not question.strip():
        raise InputError("type a question")
    return request_from_files([Path(file) for file in files or ()], question.strip())


def _spaced(found: Iterator[Any]) -> Iterator[Any]:
    """Leave out what comes too soon after what was last yielded; the last always comes."""
    shown_at, left_out = 0.0, None
    for each in found:
        left_out = each
        if time.monotonic() - shown_at >= _SECONDS_BETWEEN_UPDATES:
            yield each
            shown_at, left_out = time.monotonic(), None
    if left_out is not None:
        yield left_out


def _early_calls(run: GuardedRun, config: SmoothGuardConfig, base: SmoothGuardConfig) -> int | None:
    """Return how many calls the guard would have made with early stopping; None if it did stop early."""
    if config.early_stop is not None or run.result is None or run.result.verdict == "skipped":
        return None
    return replay(run, config.override(early_stop=base.early_stop or "lossless")).num_calls
