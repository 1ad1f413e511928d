from __future__ import annotations

import json
import time
from pathlib import Path

import gradio
import pypdfium2
import pytest

from benchmarks.safety_log import log_lines
from smoothguard_guardrail import InputError, SmoothGuardConfig
from smoothguard_guardrail.inspector import views
from smoothguard_guardrail.inspector.actions import ASKED, PATCHED, Actions, Shown, failure_message
from smoothguard_guardrail.inspector.page import build_page
from smoothguard_guardrail.inspector.settings import PageSettings
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings

PICTURE = load_demo().pictures[0]


@pytest.fixture(autouse=True)
def _light_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "shared_embeddings", WordEmbeddings)


def test_actions_ask_vote_again_and_export(tmp_path: Path) -> None:
    model = ScriptedChatModel(script=["It is red.", "It is red.", "I can't help with that.", "It is red."])
    config = SmoothGuardConfig(num_samples=4, seed=0, max_concurrency=1)
    actions, settings = Actions(model, "scripted", config, folder=tmp_path), PageSettings.of(config)
    files = [str(DEMO_DIR / PICTURE.file)]
    shown = Shown()
    assert "data:image/" in "".join(actions.preview(shown, files))
    *_, html = actions.ask(shown, files, "What is it?", settings)
    assert "It is red." in html
    assert shown.result is not None
    assert shown.result.action == "answered"
    refusing = PageSettings.read([4, 0.25, *settings.values()[2:]])
    (html,) = actions.vote_again(shown, refusing)
    assert "was not asked" in html
    assert shown.result is not None
    assert shown.result.action == "refused"
    louder = PageSettings.read([*settings.values()[:3], 0.4, *settings.values()[4:]])
    (html,) = actions.vote_again(shown, louder)
    assert "needs a new run" in html
    assert shown.result.action == "refused"
    assert len(model.received) == 4
    page, record = map(Path, actions.export(shown))
    assert page.is_relative_to(tmp_path)
    assert "Refused by the vote" in page.read_text()
    assert '"action": "refused"' in record.read_text()
    list(actions.preview(shown, files))
    assert not list(actions.vote_again(shown, settings)), "the answers of another file do not vote"
    with pytest.raises(InputError):
        actions.export(shown)


def test_a_file_that_cannot_be_guarded_is_named(tmp_path: Path) -> None:
    file = tmp_path / "notes.bin"
    file.write_bytes(b"\0\1\2")
    actions = Actions(ScriptedChatModel(script=["A."]), "scripted", SmoothGuardConfig())
    with pytest.raises(InputError, match="known format") as raised:
        list(actions.preview(Shown(), [str(file)]))
    assert "known format" in failure_message(raised.value)
    assert "ValueError: &lt;b&gt;" in failure_message(ValueError("<b>"))


@pytest.mark.parametrize("config", [SmoothGuardConfig.reference(), SmoothGuardConfig.paper(), SmoothGuardConfig()])
def test_untouched_settings_change_nothing_but_the_early_stop(config: SmoothGuardConfig) -> None:
    assert PageSettings.of(config).apply(config) == config.override(early_stop=None)


@pytest.mark.slow
def test_every_page_of_a_pdf_is_shown_beside_its_original(tmp_path: Path) -> None:
    document = pypdfium2.PdfDocument.new()
    for _ in range(2):
        document.new_page(300, 400)
    document.save(tmp_path / "two.pdf")
    config = SmoothGuardConfig(num_samples=3)
    actions = Actions(ScriptedChatModel(script=["Blank pages."]), "scripted", config)
    shown = Shown()
    list(actions.ask(shown, [str(tmp_path / "two.pdf")], "What is it?", PageSettings.of(config)))
    assert shown.run is not None
    assert [len(views) for views in (shown.run.originals, *shown.run.copies)] == [2] * 4
    assert all(view.difference for copy in shown.run.copies for view in copy)


@pytest.mark.slow
def test_stop_shows_what_came_and_asks_no_more() -> None:
    model = ScriptedChatModel(script=["It is red."], delay=0.2)
    config = SmoothGuardConfig(num_samples=12, max_concurrency=1)
    actions = Actions(model, "scripted", config)
    shown = Shown()
    updates = actions.ask(shown, [str(DEMO_DIR / PICTURE.file)], "What is it?", PageSettings.of(config))
    assert any("It is red." in html for html in updates)
    actions.stop(shown)
    *_, html = updates
    assert ("Stopped: no more calls" in html, "It is red." in html, "no answer" in html) == (True, True, True)
    assert shown.result is None
    assert "asking …" not in html
    asked = len(model.received)
    time.sleep(0.5)
    assert len(model.received) <= asked + 1 < 12


def test_stop_before_the_first_answer_and_without_a_run() -> None:
    config = SmoothGuardConfig(num_samples=4)
    actions = Actions(ScriptedChatModel(script=["It is red."], delay=0.5), "scripted", config)
    shown = Shown()
    actions.stop(shown)
    updates = actions.hide_patches(
        shown, [str(DEMO_DIR / PICTURE.file)], "What is it?", PageSettings.of(config), 0.5, 2
    )
    next(updates)
    actions.stop(shown)
    *_, html = updates
    assert "Stopped: a map needs every answer." in html
    assert shown.sections == {}


async def test_stop_does_not_wait_in_the_queue() -> None:
    page = build_page(Actions(ScriptedChatModel(script=["A."]), "scripted", SmoothGuardConfig()))
    queued = {event.name: event.queue for event in page.fns.values()}
    assert not queued["stop"]
    assert queued["handle"], "questions and attacks do"


def test_an_action_keeps_what_others_did_meanwhile() -> None:
    config = SmoothGuardConfig(num_samples=4)
    actions = Actions(ScriptedChatModel(script=["It is red."], delay=0.05), "scripted", config)
    files, shown = [str(DEMO_DIR / PICTURE.file)], Shown()
    settings = PageSettings.of(config)
    windows = actions.hide_patches(shown, files, "What is it?", settings, 0.5, 2)
    next(windows)
    list(actions.preview(shown, files))
    assert shown.stop is not None, "a preview takes nobody's Stop away"
    list(actions.ask(shown, files, "What is it?", settings))
    list(windows)
    assert set(shown.sections) == {ASKED, PATCHED}
    assert shown.result is not None


@pytest.mark.parametrize("logs", [(), (Path("safety.jsonl"),)], ids=["no log", "a log"])
async def test_only_with_a_log_there_is_a_tab_of_it(logs: tuple[Path, ...]) -> None:
    actions = Actions(ScriptedChatModel(script=["A."]), "scripted", SmoothGuardConfig(), logs=logs)
    page = build_page(actions)
    tabs = [block.label for block in page.blocks.values() if isinstance(block, gradio.Tab)]
    assert tabs == ["Ask", "Attack", "Hide a patch", *(["Log"] if logs else [])]


def test_the_log_page_is_one_attribute_of_a_frame_that_may_touch_nothing(tmp_path: Path) -> None:
    hostile = '"></iframe><script>alert(1)</script>'
    lines = [json.loads(line) for line in log_lines(5)]
    (tmp_path / "safety.jsonl").write_text("\n".join(json.dumps(line | {"tags": [hostile]}) for line in lines))
    actions = Actions(
        ScriptedChatModel(script=["A."]), "scripted", SmoothGuardConfig(), logs=[tmp_path / "safety.jsonl"]
    )
    (html,) = actions.read_log("", "", "", "", "", "")
    assert (html.count("<iframe"), html.count("</iframe"), html.count("<script")) == (1, 1, 0)
    assert 'sandbox="allow-scripts"' in html
    (html,) = actions.read_log("", "", "failed", hostile, "", "")
    assert "Only calls with verdict failed, tag" in html
    with pytest.raises(InputError, match="Since must be a time"):
        list(actions.read_log("soon", "", "", "", "", ""))
