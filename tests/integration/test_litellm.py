"""Both LiteLLM doors behind the real proxy: no original medium reaches its model."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import ToolMessage

from smoothguard_guardrail import SmoothGuardRunnable
from smoothguard_guardrail.serving import ServerSettings, create_app
from smoothguard_guardrail.testing import AsyncScriptedChatModel
from tests.helpers import config_of
from tests.integration.litellm_proxy import ENVIRONMENT, KEY, litellm_proxy
from tests.integration.recording import Recorder, recording_server
from tests.integration.replies import TEXT, scripted_answers
from tests.media.corpus import CASES, PNG_URI, WAV64, Case, originals
from tests.serving.servers import running, url_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLASS = "smoothguard_guardrail.integrations.litellm.SmoothGuardrail"
ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
QUESTION = {"type": "text", "text": "What is this?"}
IMAGE = {"type": "image_url", "image_url": {"url": PNG_URI}}
AUDIO = {"type": "input_audio", "input_audio": {"data": WAV64, "format": "wav"}}
PASSED_TYPES = {
    *("text", "image_url", "input_audio", "audio_url", "document", "guarded_text", "video_url", "file"),
}
"""Types of parts that LiteLLM passes on; for all others it fails slowly, whether they are guarded or not."""
HIDDEN = {
    # Keys that OpenAI's types do not declare.
    *("image_url on a text", "image_url remote on a text", "png under an odd key of a text", "png as a key"),
    *("additional_kwargs", "additional_kwargs by URL", "generated image", "spoken answer", "custom field"),
    *("computer call by URL",),
    # A request without text.
    "tool",
}
"""Cases whose medium LiteLLM does not show to its generic guardrail API; docs/serving.md names them."""


@dataclass(frozen=True)
class Proxy:
    """LiteLLM's proxy, and what arrives at the model behind it."""

    url: str
    model: Recorder

    def ask(self, guardrail: str, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {KEY}"}
        body = {"model": "model", "guardrails": [guardrail]} | body
        return httpx.post(self.url + path, json=body, headers=headers, timeout=120)

    def chat(self, guardrail: str, *parts: Any, **body: Any) -> httpx.Response:
        return self.ask(guardrail, messages=[{"role": "user", "content": list(parts)}], **body)

    def received(self) -> str:
        return json.dumps(self.model.bodies)


@pytest.fixture(scope="module")
def _proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy with all guardrails; clients choose by name."""
    with ExitStack() as stack:

        def guard(answer: str, **settings: Any) -> str:
            model = AsyncScriptedChatModel(script=[answer])
            guarded = SmoothGuardRunnable(model, config=config_of(num_samples=3, early_stop=None))
            app = create_app({"guard": guarded}, settings=ServerSettings(**settings))
            return url_of(stack.enter_context(running(app)))

        perturbs = guard("unused")
        urls = {
            "": perturbs,
            "-refuses": guard("I'm sorry, I can't help with that.", litellm_policy="vote"),
            "-answers": guard("A cat.", litellm_policy="vote"),
            "-down": "http://127.0.0.1:9",
        }
        guardrails = {
            f"{name}{suffix}": {"guardrail": kind, "mode": "pre_call", "api_base": url}
            for name, kind in (("api", "generic_guardrail_api"), ("class", CLASS))
            for suffix, url in urls.items()
        }
        guardrails["lenient"] = guardrails["class"] | {"unguarded_call_types": ["aresponses"]}
        model = stack.enter_context(recording_server(scripted_answers([TEXT])))
        folder = tmp_path_factory.mktemp("litellm")
        url = stack.enter_context(litellm_proxy(model.base_url, guardrails, folder))
        yield Proxy(url, model)


@pytest.fixture
def proxy(_proxy: Proxy) -> Proxy:
    _proxy.model.clear()
    return _proxy


def rows_of(case: Case) -> list[dict[str, Any]] | None:
    """Return a case as messages of a chat completion; None if JSON cannot hold it, or LiteLLM passes it to no model."""
    rows = [
        {"role": ROLES[message.type], "content": message.content}
        | ({"tool_call_id": message.tool_call_id} if isinstance(message, ToolMessage) else {})
        | message.additional_kwargs
        | (message.model_extra or {})
        for message in case.messages
    ]
    contents = [row["content"] for row in rows if row["role"] == "user" and isinstance(row["content"], list)]
    parts = [part for content in contents for part in content]
    if not all(isinstance(part, dict) and str(part.get("type")) in PASSED_TYPES for part in parts):
        return None
    try:
        json.dumps(rows)
    except TypeError:
        return None
    return rows


@pytest.mark.parametrize(("guardrail", "hidden"), [("api", HIDDEN), ("class", set())])
def test_no_medium_of_the_corpus_arrives_unperturbed(proxy: Proxy, guardrail: str, hidden: set[str]) -> None:
    cases = {case.name: rows for case in CASES if (rows := rows_of(case))}
    unsupported = {case.name for case in CASES if case.unsupported}

    def ask(name: str) -> None:
        # LiteLLM passes a parameter that it does not know on to the model.
        proxy.ask(guardrail, messages=cases[name], case=name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, cases))
    sent = {body["case"]: json.dumps(body).encode() for body in proxy.model.bodies}
    assert len(sent) > 20, "most of the corpus is refused: LiteLLM changed"
    unguarded = {
        name for name, body in sent.items() if name in unsupported or any(original in body for original in originals())
    }
    assert unguarded == hidden


@pytest.mark.parametrize("guardrail", ["api", "class"])
def test_the_model_gets_noisy_copies_and_its_answer_comes_back(proxy: Proxy, guardrail: str) -> None:
    answer = proxy.chat(guardrail, QUESTION, IMAGE, AUDIO).json()
    assert answer["choices"][0]["message"]["content"] == TEXT
    (body,) = proxy.model.bodies
    question, image, audio = body["messages"][0]["content"]
    assert question == QUESTION
    assert image["image_url"]["url"].startswith("data:image/")
    assert base64.b64decode(audio["input_audio"]["data"])[:4] == b"RIFF"
    assert not any(original.decode("latin-1") in proxy.received() for original in originals())


@pytest.mark.parametrize("guardrail", ["api", "class"])
def test_what_cannot_be_guarded_is_refused_with_the_guards_reason(proxy: Proxy, guardrail: str) -> None:
    answer = proxy.chat(guardrail, QUESTION, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    assert answer.status_code == 400
    assert "messages[0].content[1]" in answer.text
    assert not proxy.model.bodies


@pytest.mark.parametrize("guardrail", ["api", "class"])
def test_a_vote_of_the_guards_model_blocks_or_lets_a_noisy_copy_pass(proxy: Proxy, guardrail: str) -> None:
    assert proxy.chat(f"{guardrail}-refuses", QUESTION, IMAGE).status_code == 400
    assert not proxy.model.bodies
    assert proxy.chat(f"{guardrail}-answers", QUESTION, IMAGE).status_code == 200
    assert len(proxy.model.bodies) == 1
    assert PNG_URI not in proxy.received()


@pytest.mark.parametrize("guardrail", ["api-down", "class-down"])
def test_nothing_passes_while_the_guard_is_down(proxy: Proxy, guardrail: str) -> None:
    assert proxy.chat(guardrail, QUESTION, IMAGE).status_code >= 400
    assert proxy.chat(guardrail, QUESTION).status_code >= 400
    assert not proxy.model.bodies


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [QUESTION, {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG_URI.partition(",")[2]},
    }]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [
        {"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": PNG_URI},
    ]}]}),
])  # fmt: skip
def test_other_endpoints_are_guarded_by_the_api_and_blocked_by_the_class(
    proxy: Proxy, path: str, body: dict[str, Any]
) -> None:
    assert proxy.ask("api", path, **body).status_code == 200
    assert "data:image/" in proxy.received()
    assert PNG_URI not in proxy.received()
    proxy.model.clear()
    blocked = proxy.ask("class", path, **body)
    assert blocked.status_code == 400
    assert "are not guarded" in blocked.text
    assert not proxy.model.bodies


def test_the_class_sees_what_litellm_does_not_show_to_its_api(proxy: Proxy) -> None:
    smuggled = {"messages": [{"role": "user", "content": [QUESTION, IMAGE]}]}
    assert proxy.chat("class", QUESTION, extra_body=smuggled).status_code == 400
    assert proxy.chat("class", QUESTION, some_parameter=[IMAGE]).status_code == 400
    assert not proxy.model.bodies
    assert proxy.chat("class", IMAGE).status_code == 200  # LiteLLM does not ask its API about a request without text
    assert len(proxy.model.bodies) == 1
    assert PNG_URI not in proxy.received()


def test_the_class_lets_listed_call_types_pass(proxy: Proxy) -> None:
    assert proxy.ask("lenient", "/v1/responses", input="Hi").status_code == 200
    assert proxy.ask("lenient", "/v1/messages", max_tokens=9, messages=[]).status_code == 400


_IN_VAIN = """
from smoothguard_guardrail.integrations.litellm import SmoothGuardrail
modes = [{"event_hook": "during_call"}, {"event_hook": "post_call"}]
for given in ({}, *modes, {"run_in_parallel": True}, {"scan_raw_request": True}):
    try:
        SmoothGuardrail(api_base="http://127.0.0.1:1", **{"event_hook": "pre_call"} | given)
    except Exception as error:
        print(type(error).__name__)
    else:
        print("accepted")
"""


def test_the_class_refuses_settings_with_which_litellm_would_send_the_originals() -> None:
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", _IN_VAIN]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["accepted", *["ValueError"] * 2, *["ConfigurationError"] * 2]
