from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from smoothguard_guardrail import voting
from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.cli.serve import start
from smoothguard_guardrail.testing import ScriptedChatModel, WordEmbeddings
from tests.serving.servers import about_picture, get, grey_png, post, running, url_of
from tests.serving.test_chat import ListeningChatModel

# The command itself, with a model that needs no weights.
LAUNCHER = """
from smoothguard_guardrail.cli import app, loading
from smoothguard_guardrail.testing import AsyncScriptedChatModel
loading.load_model = lambda spec: AsyncScriptedChatModel(script=["Served."], delay=1)
app()
"""


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[uvicorn.Config]:
    """Return what the command would have run."""
    found: list[uvicorn.Config] = []
    monkeypatch.setattr(voting, "default_embedder", WordEmbeddings)  # or every server would wait for the real one

    def run(server: start.AnnouncingServer) -> None:
        server.started = True
        server.config.announced = server.announce(9)  # type: ignore[attr-defined]
        found.append(server.config)

    monkeypatch.setattr(start.AnnouncingServer, "run", run)
    monkeypatch.delenv("SMOOTHGUARD_API_KEY", raising=False)
    return found


def test_listens_on_loopback_and_answers_under_the_models_name(
    runner: CliRunner,
    runs: list[uvicorn.Config],
    scripted: ScriptedChatModel,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log.jsonl"
    options = ["--num-samples", "3", "--preset", "default", "--safety-log", str(log)]
    result = runner.invoke(app, ["serve", "--model", "hf:models/some-model/", *options])
    assert (result.exit_code, result.output) == (0, "")
    (run,) = runs
    assert (run.host, run.port, run.timeout_graceful_shutdown) == ("127.0.0.1", 8000, 30)
    with running(run.app) as server:
        body = {"model": "some-model", "messages": about_picture(grey_png())}
        answer = post(f"{url_of(server)}/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "A grey square."
    assert answer["smoothguard"] == {"verdict": "passed", "action": "answered"}
    assert 0 < len(scripted.received) <= 3
    assert '"verdict":"passed"' in log.read_text()


SETTINGS = """
guard.vote.on_abstain = "raise"
guard.num_samples = 5

[models.small]
model = "hf:models/smolvlm"
temperature = 0.4
guard.num_samples = 6

[models.paper]
model = "hf:models/smolvlm"
preset = "paper"
guard.seed = 3
"""


def test_several_models_have_guards_of_their_own(
    runner: CliRunner, runs: list[uvicorn.Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: dict[str, ListeningChatModel] = {}
    monkeypatch.setattr(
        loading, "load_model", lambda spec: loaded.setdefault(spec, ListeningChatModel(script=["A grey square."]))
    )
    file = tmp_path / "serve.toml"
    file.write_text(SETTINGS)
    options = [
        "--settings",
        str(file),
        "--model",
        "big=openai:gpt-4o",
        "--model",
        "openai:gpt-4o",
        "--min-agreement",
        "0.6",
    ]
    result = runner.invoke(app, ["serve", *options])
    assert result.exit_code == 0, result.output
    assert list(loaded) == ["hf:models/smolvlm", "openai:gpt-4o"]
    with running(runs[0].app) as server:  # type: ignore[arg-type]
        url = url_of(server)
        assert [each["id"] for each in get(f"{url}/v1/models").json()["data"]] == ["small", "paper", "big", "gpt-4o"]
        for name, given in (("small", {}), ("small", {"temperature": 1}), ("paper", {})):
            body = {"model": name, "messages": [{"role": "user", "content": "Hi."}], **given}
            assert post(f"{url}/v1/chat/completions", json=body).status_code == 200
    heard = [each.get("temperature") for each in loaded["hf:models/smolvlm"].heard]
    assert heard == [0.4, 1, None]
    lines = [line.split(maxsplit=1)[-1] for line in runs[0].announced]  # type: ignore[attr-defined]
    assert "small (hf:models/smolvlm), temperature 0.4" in lines
    assert "default: up to 6 samples, sigma 0.05; below agreement 0.6: an error" in lines
    assert "paper: up to 5 samples, sigma 0.1; below agreement 0.6: an error" in lines


def test_start_says_where_and_what_but_no_key(
    runner: CliRunner,
    runs: list[uvicorn.Config],
    scripted: ScriptedChatModel,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SMOOTHGUARD_API_KEY", "alice:s3cret, s4cret,alice:s5cret")
    assert runner.invoke(app, ["serve", "--host", "::1", "--safety-log", str(tmp_path / "log.jsonl")]).exit_code == 0
    text = "\n".join(runs[0].announced)  # type: ignore[attr-defined]
    for said in (
        "http://[::1]:9/v1",
        "http://[::1]:9\n",
        "reference",
        "required; clients: alice, default",
        "log.jsonl",
    ):
        assert said in text
    assert "cret" not in text
    monkeypatch.setenv("SMOOTHGUARD_API_KEY", "alice:s3cret,bob:s3cret")
    result = runner.invoke(app, ["serve"])
    assert (result.exit_code, "s3cret" in result.output) == (2, False)
    assert "one client" in result.stderr


@pytest.mark.slow
def test_a_public_address_needs_a_key(
    runner: CliRunner, runs: list[uvicorn.Config], scripted: ScriptedChatModel, monkeypatch: pytest.MonkeyPatch
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
    with running(runs[-1].app) as server:
        statuses = [
            get(f"{url_of(server)}/v1/models", headers={"x-api-key": key}).status_code
            for key in ("old", "new", "old, new", "none")
        ]
    assert statuses == [200, 200, 401, 401]


def test_bad_options_are_exit_code_2(
    runner: CliRunner, runs: list[uvicorn.Config], scripted: ScriptedChatModel
) -> None:
    for options in (
        ["--allowed-host", "example.org"],
        ["--num-samples", "0"],
        ["--name", "a/b"],
        ["--model", "a=x", "--model", "a=y"],
        ["--model", "x", "--model", "y", "--name", "z"],
        ["--temperature", "-1"],
        ["--settings", "/no/such/file.toml"],
        ["--port", "99999"],
        ["--safety-log", "/no/such/folder/log.jsonl"],
        ["--max-concurrency", "0"],
    ):
        assert runner.invoke(app, ["serve", *options]).exit_code == 2
    assert runs == []


def test_missing_extra_is_named(runner: CliRunner, runs: list[uvicorn.Config], monkeypatch: pytest.MonkeyPatch) -> None:
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
    url = next(line.split()[-1] for line in lines if "listens on" in line)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}]}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, f"{url}/v1/chat/completions", json=body)
        while "smoothguard_requests_in_flight 1.0" not in get(f"{url}/metrics").text:
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert answer.result().json()["choices"][0]["message"]["content"] == "Served."
    assert process.wait(20) in (0, -signal.SIGTERM)
