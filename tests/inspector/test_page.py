"""`smoothguard inspect` as people use it: a process of its own, a real browser, the shipped model and images.

With `SMOOTHGUARD_SCREENSHOTS=docs/assets` it also renews the documentation's screenshots.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.safety_log import log_lines
from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.browser import OVERFLOW
from tests.serving.servers import get, post

# The command itself; every model call is noted in a file.
LAUNCHER = """
import os
from smoothguard_guardrail.cli import main
from smoothguard_guardrail.models import ChatTransformersMultimodal as Model
ask = Model.generate_batch
def noted(self, requests, **options):
    with open(os.environ["CALLS"], "a") as file:
        file.write("call\\n" * len(requests))
    return ask(self, requests, **options)
Model.generate_batch = noted
main()
"""
CONFIG = """{"num_samples": 8, "sigma": 0.3, "seed": 0, "image": {"max_rotation": 8},
"vote": {"refusal_share": 0.125}, "media": {"limits": {"max_bytes": 100000}}}"""
HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{ 7 * 7 }}"


@dataclass(frozen=True)
class Served:
    """A running command."""

    url: str
    calls: Path
    stderr: Path

    @property
    def num_calls(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


def hostile_lines() -> Iterator[str]:
    """Yield the lines of a safety log whose first client sends markup."""
    for line in map(json.loads, log_lines(400)):
        line["metadata"] |= {"client": HOSTILE if line["metadata"]["client"] == "shop" else "partner"}
        line["tags"] = [f"</iframe>{HOSTILE}"]
        yield json.dumps(line) + "\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("inspector")
    (folder / "guard.json").write_text(CONFIG)
    (folder / "safety.jsonl").write_text("".join(hostile_lines()))
    files = ["--config", str(folder / "guard.json"), "--safety-log", str(folder / "safety.jsonl")]
    command = [sys.executable, "-c", LAUNCHER, "inspect", "--port", "0", *files]
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "CALLS": str(folder / "calls"), "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("open http://127.0.0.1:")
    yield Served(url=line.split()[1], calls=folder / "calls", stderr=folder / "stderr")
    process.terminate()
    process.wait(30)
    process.stdout.close()
    assert [path.name for path in folder.glob("smoothguard-*")] == [], "uploads are deleted at the end"


@contextmanager
def visit(browser: Any, served: Served, width: int, scheme: str = "light") -> Iterator[Any]:
    """Open the page; at the end nothing may have been asked of other hosts, and no error logged.

    A failure says what the page showed and asked by then.
    """
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(90_000)  # a machine with other work can be slow
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{time.time():.1f} {request.method} {request.url}"))
    page.on("requestfinished", lambda request: asked.append(f"{time.time():.1f} answered {request.url}"))
    messages: list[str] = []
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
    outside: list[str] = []
    local = (served.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else outside.append(request.url))
    page.goto(served.url)
    page.locator("#ask").wait_for()
    try:
        yield page
    except Exception as error:
        shown = page.locator("body").inner_text()
        error.add_note("\n".join([f"{time.time():.1f}", shown, *messages, *asked, served.stderr.read_text()]))
        raise
    assert page.evaluate(OVERFLOW) == 0
    page.close()
    assert (messages, outside) == ([], [])


def choose(page: Any, index: int) -> None:
    page.locator("#examples button").nth(index).click()
    page.locator("#answer .original").wait_for()


def is_dark(locator: Any) -> bool:
    background: str = locator.evaluate("each => getComputedStyle(each).backgroundColor")
    return sum(map(int, background.strip("rgb()").split(","))) < 3 * 80


def question_of(page: Any) -> Any:
    return page.get_by_label("Question", exact=True)


def screenshot(page: Any, name: str) -> None:
    if folder := os.environ.get("SMOOTHGUARD_SCREENSHOTS"):
        page.mouse.move(0, 0)
        page.evaluate("window.scrollTo(0, 0)")
        taken = Image.open(io.BytesIO(page.screenshot(full_page=name != "phone"))).convert("RGB")
        taken.quantize(256, dither=Image.Dither.NONE).save(Path(folder) / f"inspector-{name}.png", optimize=True)


@pytest.mark.browser
@pytest.mark.server
def test_ask_vote_again_and_export_by_keyboard(browser: Any, served: Served, tmp_path: Path) -> None:
    with visit(browser, served, width=1360) as page:
        page.get_by_role("button", name="Export what is shown").click()
        page.get_by_text("nothing to export yet").wait_for()
        choose(page, 4)
        before = served.num_calls
        question_of(page).focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "ask"
        page.keyboard.press("Enter")
        verdict = page.locator("[data-verdict]")
        verdict.wait_for()
        assert verdict.inner_text() == "passed"
        assert served.num_calls == before + 8
        assert page.locator("#answer figure.sample").count() == 9
        screenshot(page, "desktop")
        page.locator("#agreement input[type=range]").focus()
        page.keyboard.press("End")
        page.get_by_text("the model was not asked").wait_for()
        assert verdict.inner_text() == "abstained"
        assert served.num_calls == before + 8
        page.get_by_role("button", name="Export what is shown").click()
        with page.expect_download() as download:
            page.locator("#exported a").first.click()
        download.value.save_as(tmp_path / "export.html")
    assert "Withheld: the answers disagree" in (tmp_path / "export.html").read_text()
    exported = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark")
    exported.goto((tmp_path / "export.html").as_uri())
    assert is_dark(exported.locator(".verdict"))
    assert exported.evaluate(OVERFLOW) == 0
    exported.close()


@pytest.mark.browser
@pytest.mark.server
def test_attack_and_hidden_patches_in_the_dark(browser: Any, served: Served) -> None:
    with visit(browser, served, width=1360, scheme="dark") as page:
        choose(page, 0)
        page.get_by_role("tab", name="Attack").click()
        steps = page.get_by_label("number input for Steps")
        steps.fill("1000")  # long enough to be stopped
        steps.press("Tab")
        knows = page.get_by_label("The attacker knows the guard")
        knows.check()  # four times as long
        page.get_by_role("button", name="Attack the reference model").click()
        page.locator("#attacked progress").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped: the attack was not finished.").wait_for()
        page.locator("#stop:disabled").wait_for()
        knows.uncheck()
        steps.fill("60")
        steps.press("Tab")
        page.get_by_role("button", name="Attack the reference model").click()
        page.get_by_text("The attack succeeded").wait_for()
        assert page.get_by_text("The attack failed").count() == 1
        screenshot(page, "attack-dark")
        assert is_dark(page.locator("#attacked .verdict").first)
        page.get_by_role("tab", name="Hide a patch").click()
        page.get_by_role("button", name="Hide every window").click()
        page.locator("img.heat").wait_for()
        screenshot(page, "patches-dark")


@pytest.mark.browser
@pytest.mark.server
def test_a_phone_shows_hostile_texts_as_texts(browser: Any, served: Served) -> None:
    with visit(browser, served, width=390) as page:
        choose(page, 8)
        page.get_by_role("button", name="Ask", exact=True).click()
        page.locator("[data-verdict]").wait_for()
        screenshot(page, "phone")
        answer, settings = (page.locator(each).bounding_box()["y"] for each in ("#answer", "#settings"))
        assert answer < settings
        question_of(page).fill(HOSTILE)
        question_of(page).press("Enter")
        page.locator("#answer q", has_text=HOSTILE).first.wait_for()


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1360, "light")])
def test_the_log_of_a_hostile_client(browser: Any, served: Served, width: int, scheme: str) -> None:
    with visit(browser, served, width=width, scheme=scheme) as page:
        page.get_by_role("tab", name="Log").click()
        log = page.frame_locator("#log iframe")
        log.get_by_text("Guarded calls by verdict").first.wait_for()
        if scheme == "light":
            screenshot(page, "log")
        assert is_dark(log.locator("html")) == (scheme == "dark")
        assert log.locator("html").evaluate(OVERFLOW) == 0
        hostile = log.locator("th").get_by_text(HOSTILE, exact=True)
        assert hostile.count() == 1
        assert page.locator("#log img").count() + log.locator("img").count() == 0
        log.get_by_role("link", name="Single calls").click()
        log.locator("#verdict").select_option("failed")
        assert 0 < log.locator(".call:visible").count() < log.locator(".call").count()
        page.get_by_label("Client").fill("partner")
        page.get_by_label("Client").press("Enter")
        log.get_by_text("Only calls with client partner.").wait_for()
        assert hostile.count() == 0
        page.get_by_label("Since").fill("soon")
        page.get_by_label("Since").press("Enter")
        page.get_by_text("Since must be a time").wait_for()


@pytest.mark.server
def test_other_sites_cannot_use_it(served: Served) -> None:
    policy = get(served.url).headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    for headers, status in (
        ({"Host": "evil.example"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": served.url}, 200),
    ):
        assert get(served.url, headers=headers).status_code == status


@pytest.mark.server
def test_uploads_are_limited_and_other_files_are_not_served(served: Served) -> None:
    for size, status in ((500, 200), (200_000, 413)):
        response = post(f"{served.url}/gradio_api/upload", files={"files": ("a.png", b"x" * size)})
        assert response.status_code == status
    assert get(f"{served.url}/gradio_api/file=/etc/hostname").status_code in (403, 404)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_model", lambda spec: ScriptedChatModel(script=["A."]))


def test_without_gradio_the_command_names_the_extra(scripted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["inspect", "--port", "0"])
    assert result.exit_code == 2
    assert "gradio is missing: pip install 'smoothguard-guardrail[ui]'" in result.stderr


def test_a_log_that_cannot_be_shown_is_named_at_the_start(
    scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absent = CliRunner().invoke(app, ["inspect", "--safety-log", str(tmp_path / "none.jsonl")])
    assert (absent.exit_code, "No such file" in absent.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    without = CliRunner().invoke(app, ["inspect", "--safety-log", __file__])
    assert (without.exit_code, "duckdb is missing: pip install" in without.stderr) == (2, True)


def test_a_port_in_use_is_named(scripted: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(app, ["inspect", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "cannot be used" in result.stderr
