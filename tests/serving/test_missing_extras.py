"""The server needs neither LangServe nor LiteLLM, and what does need them says so."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys

BLOCKED = ("langserve", "sse_starlette", "litellm")
sys.modules.update(dict.fromkeys(BLOCKED))

from starlette.testclient import TestClient

from smoothguard_guardrail import MissingDependencyError, SmoothGuardRunnable
from smoothguard_guardrail.serving import create_app
from smoothguard_guardrail.testing import ScriptedChatModel

guard = SmoothGuardRunnable(ScriptedChatModel(script=["Hello."]))
client = TestClient(create_app({"scripted": guard}))
body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi!"}]}
assert client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"] == "Hello."
assert "smoothguard-guardrail[langserve]" in client.get("/").text
for path in ("/guards/scripted/invoke", "/forms/scripted/invoke"):
    assert client.post(path, json={"input": "Hi!"}).status_code == 404
try:
    create_app({"scripted": guard}, {"chain": guard})
except MissingDependencyError as error:
    assert "smoothguard-guardrail[langserve]" in str(error)
else:
    raise AssertionError("chains have no routes without LangServe")
try:
    import smoothguard_guardrail.integrations.litellm
except MissingDependencyError as error:
    assert "smoothguard-guardrail[litellm]" in str(error)
else:
    raise AssertionError("the class needs LiteLLM")
"""


def test_the_server_starts_without_langserve() -> None:
    result = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
