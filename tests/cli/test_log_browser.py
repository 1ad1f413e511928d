"""A real browser opens the page of a safety log from disk: it fits, filters the calls, and requests nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.safety_log import log_lines
from smoothguard_guardrail.cli import app
from tests.browser import LABELS_RESOLVE, OVERFLOW

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("log")
    (folder / "safety.jsonl").write_text("".join(log_lines(2000)))
    command = ["log", str(folder / "safety.jsonl"), "--html", str(folder / "log.html")]
    assert CliRunner().invoke(app, command).exit_code == 0
    return (folder / "log.html").as_uri()


@pytest.mark.parametrize("options", [{"width": 1280, "height": 900}, {"width": 390, "height": 844}], ids=str)
def test_the_page_fits_and_filters_its_calls(browser: Any, page_url: str, options: dict[str, int]) -> None:
    page = browser.new_page(viewport=options)
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(page_url)
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(LABELS_RESOLVE)
    assert page.locator(".drawing svg").count() > 6
    assert page.locator("#shown").text_content() == "20 of 20 shown"
    page.select_option("#verdict", "failed")
    failed = page.locator(".call:visible").count()
    assert 0 < failed < 20
    assert page.locator("#shown").text_content() == f"{failed} of 20 shown"
    page.fill("#text", "no such words")
    assert page.locator(".call:visible").count() == 0
    page.fill("#text", "ERROR")
    assert page.locator(".call:visible").count() == failed
    page.locator(".call:visible summary").first.click()
    assert page.locator(".call[open] pre").first.is_visible()
    assert (requests, messages) == ([page_url], [])
    page.close()


def test_without_scripts_every_call_is_shown(browser: Any, page_url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_url)
    assert page.locator(".call").count() == 20
    assert not page.locator(".filters").is_visible()
    context.close()
