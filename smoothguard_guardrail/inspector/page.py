"""The page: what people click, and which action each part starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from smoothguard_guardrail.errors import SmoothGuardError
from smoothguard_guardrail.inspector.actions import Actions, Shown, failure_message
from smoothguard_guardrail.inspector.settings import PageSettings
from smoothguard_guardrail.inspector.views import render_macro, render_message
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.observability.safety_log.filters import VERDICTS

if TYPE_CHECKING:
    from smoothguard_guardrail.models.reference.demo import DemoPicture

Action = Callable[..., Iterator[str]]
_HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {**_HIDDEN, "queue": False}
"""For what must not wait behind a question or an attack, and needs no stream of events: Stop, above all."""
_SECONDS_BETWEEN_SIGNS_OF_LIFE = 5


def build_page(actions: Actions) -> Any:
    """Return the page for one model, a `gradio.Blocks`."""
    with gr.Blocks(title="SmoothGuard inspector", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        shown, original = gr.State(Shown()), gr.State(None)
        gr.HTML(render_macro("header", model=actions.name), apply_default_css=False, elem_id="header")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="inputs"):
                gallery = _examples()
                files = gr.File(label="Image, audio or PDF", file_count="multiple", height=120, elem_id="files")
                question = gr.Textbox(label="Question", lines=1, max_lines=4, max_length=4000, elem_id="question")
                with gr.Row():
                    ask = gr.Button("Ask", variant="primary", scale=3, min_width=100, elem_id="ask")
                    stop = gr.Button("Stop", interactive=False, min_width=80, elem_id="stop")
                with gr.Column(elem_id="settings"):
                    settings = _settings(actions)
                    export = gr.Button("Export what is shown", size="sm", elem_id="export")
                    exported = gr.File(
                        label="HTML page and JSON record", visible=False, interactive=False, elem_id="exported"
                    )
            with gr.Column(scale=5, min_width=320, elem_id="results"), gr.Tabs() as tabs:
                with gr.Tab("Ask", id="ask"):
                    answer = gr.HTML(render_macro("welcome"), apply_default_css=False, elem_id="answer")
                with gr.Tab("Attack", id="attack"):
                    target, attack_inputs, attack, attacked = _attack_tab()
                with gr.Tab("Hide a patch", id="patches"):
                    patch_inputs, hide, hidden = _patch_tab()
                if actions.logs:
                    with gr.Tab("Log", id="log") as tab:
                        _log_tab(actions, tab)

        asked = [shown, files, question, *settings]

        def start(triggers: list[Any], tab: str, action: Action, more: list[Any], html: Any) -> None:
            """Let these events open the tab and run the action, and enable Stop until it ends."""

            def run(*given: Any) -> Iterator[str]:
                return action(*_read(given[: len(asked)]), *given[len(asked) :])

            begin = gr.on(triggers, lambda: (gr.Tabs(selected=tab), _enabled()), None, [tabs, stop], **_AT_ONCE)
            done = begin.then(_handler(run), [*asked, *more], html, scroll_to_output=True, **_HIDDEN)
            done.then(lambda: _enabled(False), None, stop, **_AT_ONCE)

        start([ask.click, question.submit], "ask", actions.ask, [], answer)
        start([attack.click], "attack", actions.attack, [original, target, *attack_inputs], attacked)
        start([hide.click], "patches", actions.hide_patches, patch_inputs, hidden)
        stop.click(actions.stop, shown, None, **_AT_ONCE)
        again = _handler(lambda shown, *values: actions.vote_again(shown, PageSettings.read(values)))
        for setting in settings:
            setting.input(again, [shown, *settings], answer, trigger_mode="always_last", **_HIDDEN)
        gallery.select(_chosen, None, [files, question, target, original], **_AT_ONCE)
        gr.on([files.upload, files.clear], lambda: None, None, original, **_AT_ONCE)
        files.change(_handler(actions.preview), [shown, files], answer, **_HIDDEN)
        export.click(_exporter(actions), shown, exported, **_HIDDEN)
        page.load(_keep_events_flowing, concurrency_limit=None, **_HIDDEN)
    return page


async def _keep_events_flowing() -> AsyncIterator[None]:
    """Stay pending for as long as the page is open.

    Gradio closes a page's stream of events when none is pending, and may do so just as another starts, whose output
    then never arrives.
    """
    while True:
        yield
        await asyncio.sleep(_SECONDS_BETWEEN_SIGNS_OF_LIFE)


def _enabled(enabled: bool = True) -> gr.Button:
    return gr.Button(interactive=enabled)


def _read(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is on the screen, the files, the question, and the settings read from their values."""
    shown, files, question, *values = given
    return shown, files, question, PageSettings.read(values)


def _handler(action: Action) -> Action:
    """Return an event handler that shows a failure instead of raising it."""

    def handle(*given: Any) -> Iterator[str]:
        try:
            yield from action(*given)
        except Exception as error:
            yield failure_message(error)

    return handle


def _exporter(actions: Actions) -> Callable[[Shown], Any]:
    def export(shown: Shown) -> Any:
        try:
            return gr.File(actions.export(shown), visible=True)
        except SmoothGuardError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return export


def _examples() -> gr.Gallery:
    pictures = load_demo().pictures
    return gr.Gallery(
        [(str(DEMO_DIR / picture.file), _caption(picture)) for picture in pictures],
        label="Examples",
        columns=5,
        height="auto",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )


def _caption(picture: DemoPicture) -> str:
    return f"{picture.epsilon}/255" if picture.is_attack else "clean"


def _chosen(event: gr.SelectData) -> tuple[list[str], str, str, str]:
    """Return an example's file, question, the answer that its attacker wanted, and the image before that attack."""
    picture = load_demo().pictures[event.index]
    shown, start = DEMO_DIR / picture.file, DEMO_DIR / (picture.original or picture.file)
    return [str(shown)], picture.question, picture.target or "", str(start)


def _settings(actions: Actions) -> list[Any]:
    """Return the components of `PageSettings`, in the order of its fields."""
    now = PageSettings.of(actions.config)
    by_stance = actions.config.vote.rule == "stance"
    most = max(16, now.num_samples)
    with gr.Accordion("The vote: replayed at once", open=True, elem_id="vote-settings"):
        num_samples = gr.Slider(1, most, now.num_samples, step=1, label="Samples", buttons=[], elem_id="num_samples")
        preference = gr.Slider(
            *((0.05, 1.0) if by_stance else (0.0, 0.49)),
            now.benign_preference,
            step=0.005,
            label="Refusals win from (share)" if by_stance else "Weight of the benign score",
            buttons=[],
            elem_id="preference",
        )
        agreement = gr.Slider(
            0, 1, now.min_agreement, step=0.05, label="Agreement needed", buttons=[], elem_id="agreement"
        )
    with gr.Accordion("The copies: need a new run", open=False, elem_id="copy-settings"):
        sigma = gr.Slider(
            0.01, max(0.6, now.sigma), now.sigma, step=0.01, label="Noise on images (sigma)", buttons=[],
            elem_id="sigma",
        )  # fmt: skip
        shift = gr.Slider(
            0, max(16, now.max_shift), now.max_shift, step=1, label="Largest shift (pixels)", buttons=[],
            elem_id="shift",
        )  # fmt: skip
        clean = gr.Checkbox(now.include_clean, label="One copy without noise, for the suspicion")
        asks_all = gr.Checkbox(now.asks_all, label="Ask for all samples instead of stopping early")
    return [num_samples, preference, agreement, sigma, shift, clean, asks_all]


def _attack_tab() -> tuple[Any, list[Any], Any, Any]:
    target = gr.Textbox(label="Answer that the attacker wants", max_length=400, elem_id="target")
    with gr.Row():
        epsilon = gr.Slider(1, 32, 16, step=1, label="Largest change (255ths)", buttons=[])
        steps = gr.Slider(10, 1000, 60, step=10, label="Steps", buttons=[], elem_id="steps")
    knows = gr.Checkbox(False, label="The attacker knows the guard: gradients through its noise, four draws per step")
    button = gr.Button("Attack the reference model", variant="primary", elem_id="attack")
    found = gr.HTML(
        render_message("PGD changes the image of the question on the left until the bare model gives this answer."),
        apply_default_css=False,
        elem_id="attacked",
    )
    return target, [epsilon, steps, knows], button, found


def _patch_tab() -> tuple[list[Any], Any, Any]:
    with gr.Row():
        patch = gr.Slider(0.05, 0.5, 0.15, step=0.05, label="Patch (share of the sides)", buttons=[])
        per_axis = gr.Slider(2, 8, 6, step=1, label="Windows per side (calls: its square, and one)", buttons=[])
    button = gr.Button("Hide every window", variant="primary", elem_id="hide")
    found = gr.HTML(
        render_message("Every window of the image of the question on the left is covered, one at a time."),
        apply_default_css=False,
        elem_id="hidden",
    )
    return [patch, per_axis], button, found


def _log_tab(actions: Actions, tab: Any) -> None:
    """Build the tab of the safety logs, which are read whenever it is opened or a filter is set."""
    with gr.Row():
        since = gr.Textbox(label="Since", placeholder="24h", min_width=110)
        until = gr.Textbox(label="Until", placeholder="2026-11-24", min_width=110)
        verdicts = [("all", ""), *((each, each) for each in VERDICTS)]
        verdict = gr.Dropdown(verdicts, value="", label="Verdict", min_width=110)
        texts = [gr.Textbox(label=label, min_width=110) for label in ("Tag", "Client", "Id")]
    button = gr.Button("Read the log again", size="sm")
    found = gr.HTML(render_message("Reading the log."), apply_default_css=False, elem_id="log")
    filters = [since, until, verdict, *texts]
    gr.on(
        [tab.select, button.click, verdict.input, *(each.submit for each in (since, until, *texts))],
        _handler(actions.read_log),
        filters,
        found,
        **_HIDDEN,
    )
