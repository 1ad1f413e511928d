from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from smoothguard_guardrail import voting
from smoothguard_guardrail.cli import app
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.serving.servers import about_picture, get, grey_png, post, running, url_of

# The command itself, with a model that needs no weights.
LAUNCHER = """
from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.testing import AsyncScriptedChatModel
loading.load_model = lambda spec: AsyncScriptedChatModel(script=["Served."], delay=1)
app()
"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command would have run."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(voting, "default_embedder", WordEmbeddings)  # or every server would wait for the real one
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: found.append({"app": app, **options}))
    monkeypatch.delenv("SMOOTHGUARD_API_KEY", raising=False)
    return found


def test_listens_on_loopback_and_answers_under_the_models_name(
    runner: CliRunner,
    runs: list[dict[str, Any]],
    scripted: ScriptedChatModel,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.jsonl"
    options = ["--num-samples", "3", "--preset", "default", "--safety-log", str(log)]
    result = runner.invoke(app, ["serve", "--model", "hf:models/some-model/", *options])
    assert (result.exit_code, result.output) == (0, "")
    (run,) = runs
    assert (run["host"], run["port"], run["timeout_graceful_shutdown"]) == ("127.0.0.1", 8000, 30)
    with running(run["app"]) as server:
        body = {"model": "some-model", "messages": about_picture(grey_png())}
        answer = post(f"{url_of(server)}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "A grey square."
    assert answer["smoothguard"] == {"verdict": "passed", "action": "answered"}
    assert 0 < len(scripted.received) <= 3
    assert '"verdict":"passed"' in log.read_text()


def test_a_public_address_needs_a_key(
    runner: CliRunner, runs: list[dict[str, Any]], scripted: ScriptedChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org"):
        result = runner.invoke(app, ["serve", "--host", host])
        assert (result.exit_code, runs) == (2, [])
        assert "SMOOTHGUARD_API_KEY" in result.stderr
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.53"):
        assert runner.invoke(app, ["serve", "--host", host]).exit_code == 0
    assert runner.invoke(app, ["serve", "--host", "0.0.0.0", "--no-api-key"]).exit_code == 0
    monkeypatch.setenv("KEYS", "old, new")
    assert runner.invoke(app, ["serve", "--host", "0.0.0.0", "--api-key-env", "KEYS"]).exit_code == 0
    with running(runs[-1]["app"]) as server:
        statuses = [
            get(f"{url_of(server)}/v1/models", headers={"x-api-key": key}).status_code
            for key in ("old", "new", "old, new", "none")
        ]
    assert statuses == [200, 200, 401, 401]


def test_bad_options_are_exit_code_2(
    runner: CliRunner, runs: list[dict[str, Any]], scripted: ScriptedChatModel
) -> None:
    for options in (
        ["--allowed-host", "example.org"],
        ["--num-samples", "0"],
        ["--name", "a/b"],
        ["--port", "99999"],
        ["--safety-log", "/no/such/folder/log.jsonl"],
        ["--max-concurrency", "0"],
    ):
        assert runner.invoke(app, ["serve", *options]).exit_code == 2
    assert runs == []


def test_missing_extra_is_named(runner: CliRunner, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("smoothguard_guardrail.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = runner.invoke(app, ["serve"])
    assert result.exit_code == 2
    assert "fastapi is missing: pip install 'smoothguard-guardrail[serve]'" in result.stderr


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", LAUNCHER, "serve", "--port", "0", "--name", "scripted"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    yield server
    server.kill()
    server.communicate()


@pytest.mark.server
def test_sigterm_lets_running_requests_finish(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    url = next(line.split()[4] for line in lines if "Uvicorn running on" in line)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, f"{url}/v1/chat/completions", json=body)
        while "smoothguard_requests_in_flight 1.0" not in get(f"{url}/metrics").text:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert answer.result().json()["choices"][0]["message"]["content"] == "Served."
    assert process.wait(20) in (0, -signal.SIGTERM)
