"""What the server answers to LiteLLM, asked as LiteLLM asks; the real proxy is in tests/integration."""

from typing import Any

import pytest

from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.media.corpus import PDF64
from tests.serving.conftest import Serve
from tests.serving.servers import about_picture, post

pytestmark = pytest.mark.server

VERSION = "1.106.12"
PAPER = {"role": "user", "content": [{"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF64}"}}]}


def ask(url: str, messages: Any = None, *, version: str | None = VERSION, **fields: Any) -> dict[str, Any]:
    body = {"input_type": "request", "structured_messages": messages, "litellm_version": version} | fields
    response = post(f"{url}/beta/litellm_basic_guardrail_api", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_an_image_is_replaced_by_one_noisy_copy_in_its_own_shape(
    serve: Serve, model: AsyncScriptedChatModel, picture: str
) -> None:
    url = serve()
    given = about_picture(picture)
    answers = [ask(url, given, texts=["What is it?"]) for _ in range(2)]
    changed = [answer["structured_messages"][0]["content"][1]["image_url"] for answer in answers]
    assert all(answer["action"] == "GUARDRAIL_INTERVENED" for answer in answers)
    assert len({image["url"] for image in changed} | {given[0]["content"][1]["image_url"]["url"]}) == 3
    assert [image["detail"] for image in changed] == ["low", "low"]
    assert answers[0]["structured_messages"][0]["content"][0] == given[0]["content"][0]
    assert len(answers[0]["texts"]) == 2, "LiteLLM must fail where it can write texts back, but no messages"
    assert not model.received


def test_the_pages_of_a_pdf_arrive_as_parts_that_litellm_knows(serve: Serve) -> None:
    answer = ask(serve(), [PAPER])
    assert answer["action"] == "GUARDRAIL_INTERVENED"
    parts = answer["structured_messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "text", "image_url"]
    assert all(part["image_url"]["url"].startswith("data:image/") for part in parts[1::2])


def test_text_passes_unchanged_and_so_do_answers(serve: Serve, picture: str) -> None:
    url = serve()
    rows = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": []}]
    assert ask(url, rows) == {"action": "NONE"}
    assert ask(url, None, texts=["Hi"]) == {"action": "NONE"}
    assert ask(url, about_picture(picture), input_type="response") == {"action": "NONE"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": None}, "1.106"),
        ({"version": "1.99.5"}, "1.106"),
        ({"messages": None, "images": ["data:image/png;base64,PICTURE"]}, "where the images stand"),
        ({"messages": [PAPER], "images": ["data:image/png;base64,PICTURE"]}, "where the images stand"),
        ({"images": ["data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="]}, "where the images stand"),
        ({"messages": None, "texts": ["data:image/png;base64,PICTURE"]}, "in messages only"),
        ({"messages": [{"role": "user", "content": []}]}, "all parts"),
        ({"messages": [{"role": "user", "content": 7}]}, "text or a list"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "hologram"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://a.b/c.png"}]}]}, "URL"),
        ({"tools": [{"type": "function", "icon": "data:image/png;base64,PICTURE"}]}, "in messages only"),
        ({"additional_provider_specific_params": {"extra_body": {"messages": "MESSAGES"}}}, "in messages only"),
    ],
)
def test_what_cannot_be_guarded_is_blocked(serve: Serve, picture: str, fields: dict[str, Any], reason: str) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [filled(each) for each in value]
        return about_picture(picture) if value == "MESSAGES" else str(value).replace("PICTURE", picture)

    given = {"messages": about_picture(picture)} | {
        name: filled(value) if name in ("images", "texts", "tools", "additional_provider_specific_params") else value
        for name, value in fields.items()
    }
    answer = ask(serve(), **given)
    assert answer["action"] == "BLOCKED"
    assert reason in answer["blocked_reason"]
    assert picture not in answer["blocked_reason"]


@pytest.mark.parametrize(
    ("script", "action"),
    [
        (["A grey square."], "GUARDRAIL_INTERVENED"),
        (["I'm sorry, I can't help with that."], "BLOCKED"),
        (["A cat.", "A dog.", "A house.", "A boat."], "BLOCKED"),
        ([RuntimeError("secret")], "BLOCKED"),
    ],
)
def test_the_vote_of_the_guards_own_model_decides(
    serve: Serve, model: AsyncScriptedChatModel, picture: str, script: Any, action: str
) -> None:
    model.script = script
    url = serve(litellm_policy="vote")
    answer = ask(url, about_picture(picture))
    assert answer["action"] == action
    assert len(model.received) == 4
    assert "secret" not in str(answer)
    assert ask(url, [{"role": "user", "content": "Hi"}]) == {"action": "NONE"}
    assert len(model.received) == 4, "a request without media costs no call"


def test_a_body_of_another_kind_is_an_error(serve: Serve) -> None:
    response = post(f"{serve()}/beta/litellm_basic_guardrail_api", json={"texts": ["Hi"]})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
