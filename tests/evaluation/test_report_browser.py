"""A real browser opens a report from disk: everything is shown, and nothing else is requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smoothguard_guardrail.evaluation.report import Report, write_report
from tests.browser import LABELS_RESOLVE, OVERFLOW
from tests.evaluation.reports import hostile_report, rich_report

IMAGES_DECODED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
SCROLLED = """
frame => new Promise(resolve => {
  const look = () => frame.scrollLeft > 0 ? resolve(true) : requestAnimationFrame(look);
  look();
})
"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report() -> Report:
    return rich_report()


class Visit:
    """An open report, with the requests and error messages of the page."""

    def __init__(self, browser: Any, report: Report, folder: Path, **options: Any) -> None:
        self.url = write_report(report, folder)[0].as_uri()
        self.page = browser.new_page(**options)
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.page.goto(self.url)

    def close(self) -> None:
        self.page.close()
        assert self.messages == []
        assert [url for url in self.requests if not url.startswith("data:image/png;base64,")] == [self.url]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_everything_is_shown_at_every_width(
    browser: Any, report: Report, tmp_path: Path, width: int, scheme: str
) -> None:
    visit = Visit(browser, report, tmp_path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.page
    assert page.get_by_role("heading", level=1).inner_text() == report.title
    headings = page.get_by_role("heading", level=2).all_inner_texts()
    assert [each for each in headings if each != "Contents"] == [
        "Summary",
        *(section.title for section in report.sections),
        "Environment",
    ]
    num_cases = sum(len(section.cases) for section in report.sections)
    num_images = sum(len(case.images) for section in report.sections for case in section.cases)
    assert page.get_by_role("article").count() == num_cases
    assert page.locator("article img").count() == num_images > 0
    assert page.evaluate(IMAGES_DECODED)
    for section in report.sections:
        for table in section.tables:
            assert page.get_by_role("table", name=table.title, exact=True).get_by_role("row").count() == 1 + len(
                table.rows
            )
        for drawing in (*section.curves, *(each for each in section.maps if each.texts)):
            assert page.get_by_role("img", name=drawing.title).count() >= 1
    assert page.evaluate(LABELS_RESOLVE)
    assert page.evaluate(OVERFLOW) == 0
    page.screenshot(path=str(tmp_path / f"report_{width}_{scheme}.png"), full_page=True)
    visit.close()


def test_colours_follow_the_scheme(browser: Any, report: Report, tmp_path: Path) -> None:
    found = {}
    for scheme in ("light", "dark"):
        visit = Visit(browser, report, tmp_path, color_scheme=scheme)
        found[scheme] = visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        visit.close()
    assert found["light"] != found["dark"]


def test_keyboard_opens_the_samples_and_scrolls_a_table(browser: Any, report: Report, tmp_path: Path) -> None:
    visit = Visit(browser, report, tmp_path, viewport={"width": 400, "height": 900})
    summary = visit.page.get_by_text("All 8 sample answers").first
    samples = visit.page.locator("ol.samples").first
    assert not samples.is_visible()
    summary.focus()
    visit.page.keyboard.press("Enter")
    assert samples.is_visible()
    frame = visit.page.get_by_role("region", name="Attack success rate by arm, epsilon 8")
    frame.focus()
    visit.page.keyboard.press("ArrowRight")
    assert frame.evaluate(SCROLLED)
    visit.close()


def test_header_of_a_long_table_stays_visible(browser: Any, report: Report, tmp_path: Path) -> None:
    visit = Visit(browser, report, tmp_path, viewport={"width": 1280, "height": 500})
    frame = visit.page.get_by_role("region", name="Examples by category")
    frame.evaluate("frame => frame.scrollTo(0, frame.scrollHeight)")
    tops = frame.evaluate("frame => [frame, frame.querySelector('th')].map(each => each.getBoundingClientRect().top)")
    assert frame.evaluate("frame => frame.scrollTop") > 0
    assert tops[1] == pytest.approx(tops[0], abs=2)
    visit.close()


def test_contents_link_to_the_sections(browser: Any, report: Report, tmp_path: Path) -> None:
    visit = Visit(browser, report, tmp_path, viewport={"width": 1280, "height": 900})
    for link in visit.page.get_by_role("navigation").get_by_role("link").all():
        link.click()
        target = visit.page.locator(visit.page.evaluate("location.hash"))
        assert target.get_by_role("heading", level=2).inner_text() == link.inner_text()
    visit.page.close()
    assert visit.messages == []


def test_hostile_texts_run_nothing_and_fetch_nothing(browser: Any, tmp_path: Path) -> None:
    visit = Visit(browser, hostile_report(), tmp_path, viewport={"width": 400, "height": 900})
    page = visit.page
    assert page.locator("script, iframe, object, embed, form, main a, main link").count() == 0
    attributes = page.evaluate(
        "[...new Set([...document.querySelectorAll('*')].flatMap(each => each.getAttributeNames()))]"
    )
    assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert page.evaluate(IMAGES_DECODED)
    assert page.evaluate(OVERFLOW) == 0
    visit.close()
