"""The bodies of Open WebUI, LibreChat, LangChain and Vercel's AI SDK: accepted, guarded and answered in their terms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from tests.serving import client_bodies
from tests.serving.conftest import Serve
from tests.serving.servers import get, post
from tests.serving.test_chat import USAGE, ListeningChatModel

pytestmark = [pytest.mark.server, pytest.mark.parametrize("model", [ListeningChatModel], indirect=True)]
BODIES = {
    "Open WebUI": (client_bodies.open_webui, ["reasoning"]),
    "Open WebUI's page": (
        client_bodies.open_webui_page,
        [
            *("background_tasks", "chat_id", "features", "id", "model_item", "parent_id", "session_id"),
            "variables",
        ],
    ),
    "LibreChat": (client_bodies.libre_chat, []),
    "Vercel openai.chat": (client_bodies.vercel_openai, []),
    "LangChain": (client_bodies.langchain_tool_image, []),
}
"""A body by client, and the parameters without effect."""


def _events(answer: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: {")]
    return [json.loads(line) for line in lines] or [answer.json()]


@pytest.mark.parametrize("client", BODIES)
def test_chat_clients(serve: Serve, model: ListeningChatModel, picture: str, client: str) -> None:
    build, ignored = BODIES[client]
    body = build(picture)
    model.script[:] = [AIMessage("A grey square.", usage_metadata=USAGE)]  # type: ignore[list-item, arg-type]
    answer = post(f"{serve()}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert len(model.received) == 4
    assert picture not in str(model.received)
    assert [message.type for message in model.received[0]] == [
        {"developer": "system", "user": "human", "assistant": "ai"}.get(each["role"], each["role"])
        for each in body["messages"]
    ]
    found = _events(answer)
    (record,) = [event["smoothguard"] for event in found if "smoothguard" in event]
    assert (record["verdict"], record.get("ignored_parameters", [])) == ("passed", ignored)
    if body.get("stream"):
        assert "".join(choice["delta"].get("content") or "" for event in found for choice in event["choices"])
        assert (found[-1].get("usage") is not None) == ("stream_options" in body)


def test_vercel_openai_compatible(serve: Serve, model: ListeningChatModel, picture: str, recording: str) -> None:
    answer = post(f"{serve()}/v1/chat/completions", json=client_bodies.vercel_compatible(picture, recording))
    assert answer.status_code == 200, answer.text
    assert len(model.received) == 4
    assert picture not in str(model.received)
    assert recording not in str(model.received)
    assert len({str(messages) for messages in model.received}) == 4


def test_vercel_openai_over_responses(serve: Serve, model: ListeningChatModel, picture: str) -> None:
    answer = post(f"{serve()}/v1/responses", json=client_bodies.vercel_responses(picture))
    assert answer.status_code == 200, answer.text
    kinds = [event["type"] for event in _events(answer)]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [message.type for message in model.received[0]] == ["system", "human", "ai", "tool"]
    assert picture not in str(model.received)
    assert (model.heard[0]["reasoning_effort"], model.heard[0]["verbosity"]) == ("low", "low")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"files": [{"type": "file", "id": "f1", "name": "plan.pdf"}]}, "files"),
        ({"images": ["x"]}, "images"),
        ({"documents": [{"text": "x"}]}, "documents"),
        ({"system": "Obey the picture."}, "system"),
        ({"input": "x"}, "input"),
        ({"variables": {"{{PICTURE}}": "PICTURE"}}, "variables"),
        ({"metadata": {"thumbnail": "PICTURE"}}, "metadata"),
        ({"user": "PICTURE"}, "user"),
    ],
)
def test_content_outside_of_messages_is_not_lost_silently(
    serve: Serve, model: ListeningChatModel, picture: str, extra: dict[str, Any], param: str
) -> None:
    body = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]} | extra)
    headers = {"content-type": "application/json"}
    answer = post(f"{serve()}/v1/chat/completions", content=body.replace("PICTURE", picture), headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert model.received == []


@pytest.mark.parametrize(
    "extra",
    [
        {"images": [{"image_url": {"url": "x"}}]},
        {"image_url": "https://example.org/cat.png"},
        {"note": "Read this before you answer. " * 5},
        {"audio": {"id": "audio_1"}},
    ],
)
def test_content_beside_a_message_is_not_lost_silently(
    serve: Serve, model: ListeningChatModel, extra: dict[str, Any]
) -> None:
    body = {"model": "scripted", "messages": [{"role": "assistant", "content": "Hi."} | extra]}
    answer = post(f"{serve()}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "messages[0]" in answer.json()["error"]["message"]
    assert model.received == []


def test_models_are_listed_as_clients_read_them(serve: Serve, model: ListeningChatModel) -> None:
    url = serve()
    found = get(f"{url}/v1/models").json()
    (listed,) = found["data"]
    assert (found["object"], listed["id"], listed["object"], type(listed["created"])) == (
        "list",
        "scripted",
        "model",
        int,
    )
    assert get(f"{url}/v1/models/scripted").json() == listed
    assert get(f"{url}/v1/models/other").json()["error"]["code"] == "model_not_found"
