"""A real browser opens the LangServe playground of the shipped model and gets an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chains.server import build_app
from chains.visual_question_answering import build_chain, chain_input
from smoothguard_guardrail import SmoothGuardConfig
from smoothguard_guardrail.models import ChatTransformersMultimodal
from smoothguard_guardrail.models.reference import reference_path
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo
from smoothguard_guardrail.serving import ServerSettings
from tests.serving.servers import get, post, running, url_of

pytestmark = [pytest.mark.browser, pytest.mark.server]
CONFIG = SmoothGuardConfig.reference(seed=0)
PICTURE = next(picture for picture in load_demo().pictures if not picture.is_attack)


@pytest.fixture(autouse=True)
def _light_embedder() -> None:
    """Here the embedder is the real one."""


@pytest.fixture(scope="module")
def model() -> ChatTransformersMultimodal:
    return ChatTransformersMultimodal.from_pretrained(str(reference_path()), local_files_only=True)


@pytest.fixture
def url(model: ChatTransformersMultimodal) -> Iterator[str]:
    settings = ServerSettings(api_keys=("open-sesame",))  # type: ignore[arg-type]
    app = build_app(model, CONFIG, name="reference", settings=settings)
    with running(app) as server:
        yield url_of(server)


def test_browser_asks_about_an_image_and_gets_the_answer(
    browser: Any, model: ChatTransformersMultimodal, url: str, tmp_path: Path
) -> None:
    expected = build_chain(model, CONFIG).invoke(chain_input(DEMO_DIR / PICTURE.file, PICTURE.question))
    context = browser.new_context(http_credentials={"username": "me", "password": "open-sesame"})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{url}/")
    assert page.url == f"{url}/chains/images/playground/"
    page.set_input_files("input[type=file]", DEMO_DIR / PICTURE.file)
    page.locator("textarea").first.fill(PICTURE.question)
    page.get_by_text("Start", exact=True).click()
    page.get_by_text(expected, exact=True).wait_for()
    page.screenshot(path=str(tmp_path / "playground.png"))
    context.close()
    assert errors == []
    assert 'smoothguard_verdicts_total{verdict="passed"} 1.0' in metrics(url)


def test_same_model_answers_openai_clients(url: str) -> None:
    body = {"model": "reference", "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 3}
    answer = post(f"{url}/v1/chat/completions", json=body, auth=("me", "open-sesame")).json()
    assert answer["usage"]["completion_tokens"] <= 3
    assert answer["smoothguard"]["verdict"] == "skipped"


def metrics(url: str) -> str:
    return get(f"{url}/metrics", auth=("me", "open-sesame")).text
