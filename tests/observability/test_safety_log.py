"""The safety log: one line per guarded call, of a published format, whatever happens to the file."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import langsmith
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tracers import LangChainTracer
from langgraph.errors import GraphInterrupt

import smoothguard_guardrail
from smoothguard_guardrail import (
    AbstainedError,
    AdapterError,
    ConfigurationError,
    GuardResult,
    InputError,
    MediaError,
    QuorumError,
    SafetyLogHandler,
    SmoothGuardChatModel,
    SmoothGuardConfig,
    SmoothGuardMiddleware,
    VoteConfig,
)
from smoothguard_guardrail._langchain.events import VERDICT_EVENT, areported, reported
from smoothguard_guardrail.observability.safety_log import FileSink, handler, json_schema, sinks
from smoothguard_guardrail.observability.safety_log.lines import _plain
from smoothguard_guardrail.testing import AsyncScriptedChatModel, ScriptedChatModel
from tests.helpers import components_of, guarded, image_block, question

SCHEMA_FILE = Path(smoothguard_guardrail.__file__).parent / "observability" / "safety_log" / "safety_log.schema.json"
VALIDATOR = Draft202012Validator(
    json.loads(SCHEMA_FILE.read_text()), format_checker=Draft202012Validator.FORMAT_CHECKER
)
SECRET = "the vault code is 7391"
SCRIPT = ["A cat.", "A cat.", "A cat.", "A dog."]
CONFIG = SmoothGuardConfig(num_samples=4, early_stop=None, vote=VoteConfig(refusal_share=0.6, min_agreement=0.0))
PARTS: Any = {"components": components_of()}
RESULT = GuardResult(answer=AIMessage("Hi."), verdict="passed", action="answered", agreement=1.0, num_calls=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "safety.log"


@pytest.fixture
def config(path: Path) -> RunnableConfig:
    return {"callbacks": [SafetyLogHandler(path)], "tags": ["shop"], "metadata": {"user": 7}}


def read(*paths: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    for line in lines:
        VALIDATOR.validate(line)
    return lines


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == handler.__name__]


def test_the_packaged_schema_matches_the_lines() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == json_schema(), "raise SCHEMA_VERSION, update the file"
    Draft202012Validator.check_schema(json_schema())


def test_a_line_holds_the_figures_and_the_run(path: Path, config: RunnableConfig) -> None:
    usage: Any = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    script = [AIMessage(text, usage_metadata=usage) for text in SCRIPT]
    result = guarded(ScriptedChatModel(script=script), include_clean=True, sigma=0.2).guard(question(), config)
    (line,) = read(path)
    assert (line["schema_version"], line["event"], line["verdict"]) == (1, "verdict", "passed")
    assert (line["agreement"], line["winner"], line["num_calls"]) == (0.75, 0, 4)
    assert line["clean_overruled"] is result.clean_overruled
    assert [cluster["size"] for cluster in line["clusters"]] == [3, 1]
    assert [(medium["kind"], medium["action"]) for medium in line["media"]] == [("image", "perturbed")]
    assert line["media"][0]["sha256"] == result.media[0].sha256
    assert (line["sigma"], line["noise_space"]) == (0.2, "pixel")
    assert line["usage"]["total_tokens"] == 28
    assert set(line["timings"]) >= {"scan", "perturb", "model", "vote", "total"}
    assert (line["tags"], line["metadata"]) == (["shop"], {"user": 7})
    assert "parent_run_id" not in line
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("record_samples", [False, True])
def test_neither_media_nor_texts_are_written(path: Path, config: RunnableConfig, record_samples: bool) -> None:
    def quote(texts: Sequence[str]) -> list[float]:
        raise ValueError(f"too long: {texts}")

    script = [SECRET, SECRET, ValueError(f"cannot parse: {SECRET}"), SECRET]
    guarded(ScriptedChatModel(script=script), record_samples=record_samples).invoke(question(), config)
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError(SECRET)])).invoke(question(), config)
    with pytest.raises(ValueError, match=SECRET):
        guarded(ScriptedChatModel(script=[ValueError(SECRET)])).invoke("What is it?", config)
    with pytest.raises(InputError, match=SECRET):
        guarded(ScriptedChatModel(script=["Hi."])).invoke([{"text": SECRET}], config)
    with pytest.raises(AdapterError, match=SECRET):
        guarded(ScriptedChatModel(script=[SECRET]), parts={"scorer": quote}).invoke(question(), config)
    written = path.read_text()
    assert len(written.splitlines()) == 5
    assert SECRET not in written
    assert "What is" not in written
    assert image_block()["base64"][:40] not in written
    assert read(path)[0]["failures"] == ["ValueError"]


def test_texts_are_written_on_request(path: Path) -> None:
    handler = SafetyLogHandler(path, include_texts=True)
    guarded(ScriptedChatModel(script=["A cat."]), record_samples=True).invoke(question(), {"callbacks": [handler]})
    guarded(ScriptedChatModel(script=["A cat."])).invoke(question(), {"callbacks": [handler]})
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError(SECRET)])).invoke(question(), {"callbacks": [handler]})
    recorded, bare, failed = read(path)
    assert (recorded["answer"], recorded["answers"]) == ("A cat.", ["A cat."] * 4)
    assert (bare["answer"], "answers" in bare) == ("A cat.", False)
    assert SECRET in failed["message"]


async def test_async_calls_are_logged_once_each(path: Path, config: RunnableConfig) -> None:
    guard = guarded(AsyncScriptedChatModel(script=["A cat."]))
    await guard.abatch([question()] * 3, config)
    await guard.ainvoke("Hello", config)
    lines = read(path)
    assert sorted(line["verdict"] for line in lines) == ["passed", "passed", "passed", "skipped"]
    assert len({line["id"] for line in lines}) == len({line["run_id"] for line in lines}) == 4


def test_concurrent_calls_are_logged_once_each(path: Path, config: RunnableConfig) -> None:
    guarded(ScriptedChatModel(script=["A cat."])).batch([question()] * 8, {**config, "max_concurrency": 4})
    assert len({line["run_id"] for line in read(path)}) == 8


HOSTS: dict[str, Callable[[ScriptedChatModel], Runnable[Any, Any]]] = {
    "runnable": lambda model: guarded(model),
    "chat model": lambda model: SmoothGuardChatModel(model, config=CONFIG, **PARTS),
    "bound chat model": lambda model: SmoothGuardChatModel(model, config=CONFIG, **PARTS).bind(stop=["."]),
    "chat model in an agent": lambda model: (
        (lambda messages: {"messages": messages})
        | create_agent(SmoothGuardChatModel(model, config=CONFIG, **PARTS), tools=[])
    ),
    "middleware": lambda model: (
        (lambda messages: {"messages": messages})
        | create_agent(model, tools=[], middleware=[SmoothGuardMiddleware(CONFIG, **PARTS)])
    ),
}


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("host", HOSTS)
async def test_every_host_is_logged_and_traced_once(path: Path, config: RunnableConfig, host: str, how: str) -> None:
    client = MagicMock(spec=langsmith.Client)
    config["callbacks"] = [*config["callbacks"], LangChainTracer(client=client)]  # type: ignore[misc]
    runnable = HOSTS[host](ScriptedChatModel(script=["A cat."]))
    if how == "invoke":
        runnable.invoke(question(), config)
    elif how == "stream":
        list(runnable.stream(question(), config))
    elif how == "ainvoke":
        await runnable.ainvoke(question(), config)
    else:
        _ = [chunk async for chunk in runnable.astream(question(), config)]
    (line,) = read(path)
    assert (line["verdict"], line["num_calls"], line["metadata"]["user"]) == ("passed", 4, 7)
    assert "shop" in line["tags"]
    runs = [call.kwargs for call in client.update_run.call_args_list]
    seen = [run["run_id"] for run in runs if "smoothguard_verdict" in run["extra"]["metadata"]]
    assert [str(run_id) for run_id in seen] == [line["run_id"]]


def test_every_guard_in_a_chain_writes_a_line(path: Path, config: RunnableConfig) -> None:
    first, second = (guarded(ScriptedChatModel(script=[text])) for text in ("A cat.", "A dog."))
    chain = first | (lambda answer: [HumanMessage(answer.content)]) | second
    chain.invoke(question(), config)
    lines = read(path)
    assert [line["verdict"] for line in lines] == ["passed", "skipped"]
    assert len({line["parent_run_id"] for line in lines}) == 1
    assert lines[0]["run_id"] != lines[1]["run_id"] != lines[0]["parent_run_id"]


def test_a_handler_given_twice_writes_once(path: Path, config: RunnableConfig) -> None:
    guarded(ScriptedChatModel(script=["A cat."])).with_config(callbacks=config["callbacks"]).invoke(question(), config)
    assert len(read(path)) == 1


def test_streamed_calls_are_logged_once(path: Path, config: RunnableConfig) -> None:
    list(guarded(ScriptedChatModel(script=["A cat."])).stream(question(), config))
    assert len(read(path)) == 1


def test_abstentions_are_verdicts_under_every_policy(path: Path, config: RunnableConfig) -> None:
    script = ["A cat.", "A dog.", "One sun.", "Two moons."]
    for policy in ("answer", "refuse"):
        guarded(ScriptedChatModel(script=script), min_agreement=0.9, on_abstain=policy).invoke(question(), config)
    with pytest.raises(AbstainedError):
        guarded(ScriptedChatModel(script=script), min_agreement=0.9, on_abstain="raise").invoke(question(), config)
    assert [(line["event"], line["verdict"]) for line in read(path)] == [("verdict", "abstained")] * 3


def test_every_line_tells_all_settings_and_never_the_seed(path: Path, config: RunnableConfig) -> None:
    guard = guarded(ScriptedChatModel(script=["A cat."]), sigma=0.2, seed=80_537_219)
    guard.invoke(question(), config)
    with pytest.raises(MediaError):
        guard.invoke(question({"type": "video", "base64": "AAAA", "mime_type": "video/mp4"}), config)
    for line in read(path):
        assert line["version"] == smoothguard_guardrail.__version__
        assert line["settings_hash"] == guard.config.settings_hash
        assert SmoothGuardConfig(**line["settings"]) == guard.config.override(seed=None)
        assert set(line["components"]) == {"embedder", "stance_classifier"}
    assert read(path)[0]["policy"]["on_abstain"] == "refuse"
    assert "80537219" not in path.read_text()


def test_failures_of_the_guard_have_their_own_lines(path: Path, config: RunnableConfig) -> None:
    guard = guarded(ScriptedChatModel(script=[TimeoutError("late"), KeyError("x")]))
    with pytest.raises(QuorumError):
        guard.invoke(question(), config)
    with pytest.raises(MediaError):
        guard.invoke(question({"type": "video", "base64": "AAAA", "mime_type": "video/mp4"}), config)
    with pytest.raises(InputError):
        guard.invoke({"no": "messages"}, config)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        guarded(ScriptedChatModel(script=[TimeoutError("late")])).invoke("Hello", config)
    quorum, media, given_wrongly, model = read(path)
    assert {line["event"] for line in (quorum, media, given_wrongly, model)} == {"failure"}
    assert (quorum["error"], quorum["message"]) == ("QuorumError", "0 samples answered, 3 were required")
    assert sorted(quorum["failures"]) == ["KeyError", "KeyError", "TimeoutError", "TimeoutError"]
    assert (quorum["num_calls"], quorum["tags"]) == (4, ["shop"])
    assert (media["error"], media["path"]) == ("UnsupportedMediaError", "messages[0].content[1]")
    assert given_wrongly["error"] == "InputError"
    assert (model["error"], "message" in model) == ("TimeoutError", False)


def test_langgraph_interrupts_are_not_failures(path: Path, config: RunnableConfig) -> None:
    def interrupt(_: object) -> GuardResult:
        raise GraphInterrupt

    with pytest.raises(GraphInterrupt):
        RunnableLambda(lambda x: reported(None, lambda: interrupt(x)).verdict).invoke(1, config)
    assert read(path) == []


async def test_hosts_without_a_run_manager_report_to_the_current_run(path: Path, config: RunnableConfig) -> None:
    async def answer() -> GuardResult:
        return RESULT

    async def node(_: object) -> str:
        return (await areported(None, answer)).verdict

    await RunnableLambda(node).ainvoke(1, {**config, "run_id": (run := uuid4())})
    RunnableLambda(lambda _: reported(None, lambda: RESULT).verdict).invoke(1, {**config, "run_id": run})
    assert [line["run_id"] for line in read(path)] == [str(run)] * 2


def test_a_call_outside_a_run_is_not_reported() -> None:
    assert reported(None, lambda: RESULT) is RESULT


def test_other_events_are_ignored(path: Path) -> None:
    handler = SafetyLogHandler(path)
    handler.on_custom_event("smoothguard.sample", {"index": 0}, run_id=uuid4())
    handler.on_custom_event("theirs", object(), run_id=uuid4())
    assert path.read_bytes() == b""


def test_events_contain_no_texts() -> None:
    class Collector(BaseCallbackHandler):
        def __init__(self) -> None:
            self.events: dict[str, Any] = {}

        def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
            self.events[name] = data

    collector = Collector()
    script = [SECRET, SECRET, SECRET, ValueError(SECRET)]
    guard = guarded(ScriptedChatModel(script=script), record_samples=True)
    guard.invoke(question(), {"callbacks": [collector]})
    data = collector.events[VERDICT_EVENT]
    assert SECRET not in json.dumps(collector.events)
    assert sorted(sample.get("error", "") for sample in data["samples"]) == ["", "", "", "ValueError"]


def test_metadata_of_the_run_is_written_short_and_plain(path: Path) -> None:
    metadata = {"picture": b"PNG", "long": "x" * 10_000, "nan": float("nan"), "none": None, "odd": "\ud800", "o": [{1}]}
    config: RunnableConfig = {"callbacks": [SafetyLogHandler(path)], "metadata": metadata}
    guarded(ScriptedChatModel(script=["Hi."])).invoke("Hello", config)
    (line,) = read(path)
    assert line["metadata"].pop("long") == "x" * 255 + "…"
    assert line["metadata"] == {"picture": "<bytes>", "nan": "nan", "none": None, "odd": "?", "o": ["<set>"]}


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=30,
)


@given(json_like)
def test_plain_values_survive_json(value: Any) -> None:
    plain = _plain(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert _plain(plain) == plain


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_never_breaks_the_call_and_is_reported_once(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = SafetyLogHandler("/dev/full")
    guard = guarded(ScriptedChatModel(script=["Hi."]))
    for _ in range(3):
        assert guard.invoke("Hello", {"callbacks": [handler]}).content == "Hi."
    assert handler.lost == 3
    (warning,) = warnings_in(caplog)
    assert "No space left on device" in warning
    monkeypatch.setattr(handler, "_sink", FileSink(path))
    for _ in range(2):
        guard.invoke("Hello", {"callbacks": [handler]})
    assert len(read(path)) == 2
    assert warnings_in(caplog)[1:] == ["SafetyLogHandler: recording works again; 3 guarded calls were lost"]
    assert handler.lost == 0


def test_a_line_that_does_not_fit_leaves_no_trace(path: Path) -> None:
    code = f"""
import resource
from smoothguard_guardrail.observability.safety_log.sinks import FileSink
sink = FileSink({str(path)!r})
sink.write("first", 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    sink.write("x" * 2000, 20)
except OSError as error:
    sink.write(type(error).__name__, 20)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert path.read_text() == "first\nOSError\n"


def test_a_closed_stream_never_breaks_the_call_and_is_reported_once(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    target = logging.StreamHandler(stream)
    guard = guarded(ScriptedChatModel(script=["Hi."]))
    config: RunnableConfig = {"callbacks": [SafetyLogHandler(target)]}
    guard.invoke("Hello", config)
    assert json.loads(stream.getvalue())["verdict"] == "skipped"
    stream.close()
    for _ in range(3):
        assert guard.invoke("Hello", config).content == "Hi."
    (warning,) = warnings_in(caplog)
    assert "closed file" in warning
    assert "Traceback" not in capsys.readouterr().err
    assert target.handleError.__func__ is logging.Handler.handleError  # type: ignore[attr-defined]


def test_a_handler_still_reports_other_failures_its_own_way(caplog: pytest.LogCaptureFixture) -> None:
    target, told = logging.StreamHandler(stream := io.StringIO()), []
    target.handleError = told.append  # type: ignore[method-assign, assignment]
    handler = SafetyLogHandler(target)
    stream.close()
    guarded(ScriptedChatModel(script=["Hi."])).invoke("Hello", {"callbacks": [handler]})
    assert (handler.lost, told) == (1, [])
    target.handle(logging.LogRecord("theirs", logging.INFO, "", 0, "message", None, None))
    assert len(told) == 1


def test_rotating_handlers_rotate(path: Path) -> None:
    target = RotatingFileHandler(path, maxBytes=1500, backupCount=20)
    guarded(ScriptedChatModel(script=["Hi."])).batch(["Hello"] * 12, {"callbacks": [SafetyLogHandler(target)]})
    target.close()
    files = list(path.parent.iterdir())
    assert len(files) > 2
    assert len({line["id"] for line in read(*files)}) == 12


def test_loggers_get_lines_with_levels(caplog: pytest.LogCaptureFixture) -> None:
    handler = SafetyLogHandler(logging.getLogger("shop.safety"))
    config: RunnableConfig = {"callbacks": [handler]}
    caplog.set_level(logging.INFO, "shop.safety")
    guarded(ScriptedChatModel(script=["Hi."])).invoke("Hello", config)
    script = ["A cat.", "A dog.", "One sun.", "Two moons."]
    guarded(ScriptedChatModel(script=script), min_agreement=0.9).invoke(question(), config)
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError("no")])).invoke(question(), config)
    caplog.set_level(logging.WARNING, "shop.safety")
    guarded(ScriptedChatModel(script=["Hi."])).invoke("Hello", config)
    records = [record for record in caplog.records if record.name == "shop.safety"]
    assert [record.levelname for record in records] == ["INFO", "WARNING", "ERROR"]
    assert all(json.loads(record.getMessage())["schema_version"] == 1 for record in records)


def test_a_moved_log_is_created_again(path: Path, config: RunnableConfig) -> None:
    guard = guarded(ScriptedChatModel(script=["Hi."]))
    guard.invoke("Hello", config)
    path.rename(moved := path.with_name("safety.log.1"))
    guard.invoke("Hello", config)
    assert len(read(path)) == len(read(moved)) == 1


def test_a_file_that_cannot_be_opened_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the safety log must be a file"):
        SafetyLogHandler(tmp_path / "no folder" / "safety.log")


def test_processes_append_whole_lines(path: Path) -> None:
    code = f"""
import sys, threading
from smoothguard_guardrail.observability.safety_log.sinks import FileSink
sink = FileSink({str(path)!r})
def work(thread):
    for index in range(50):
        sink.write(f"{{sys.argv[1]}}.{{thread}}.{{index}}:" + "x" * 20_000, 20)
threads = [threading.Thread(target=work, args=[number]) for number in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(number)]) for number in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    lines = path.read_text().splitlines()
    assert all(line.endswith(":" + "x" * 20_000) and line.count(":") == 1 for line in lines)
    expected = {f"{process}.{thread}.{index}" for process in range(3) for thread in range(2) for index in range(50)}
    assert sorted(line.partition(":")[0] for line in lines) == sorted(expected)


def test_a_hanging_process_with_the_lock_does_not_block_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "_LOCK_SECONDS", 0.02)
    sink = FileSink(path)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sink.write("line", logging.INFO)
    assert path.read_text() == "line\n"


@pytest.mark.parametrize("is_async", [False, True])
def test_langsmith_sees_the_figures_as_metadata_of_the_run(is_async: bool) -> None:
    client = MagicMock(spec=langsmith.Client)
    metadata = {"user": 7}
    config: RunnableConfig = {"callbacks": [LangChainTracer(client=client)], "metadata": metadata}
    guard = guarded(ScriptedChatModel(script=SCRIPT))
    asyncio.run(guard.ainvoke(question(), config)) if is_async else guard.invoke(question(), config)
    updates = {call.kwargs["name"]: call.kwargs["extra"]["metadata"] for call in client.update_run.call_args_list}
    seen = updates["SmoothGuardRunnable"]
    assert (seen["smoothguard_verdict"], seen["smoothguard_agreement"], seen["smoothguard_num_calls"]) == (
        "passed",
        0.75,
        4,
    )
    assert seen["user"] == 7
    assert metadata == {"user": 7}
    assert "smoothguard_verdict" not in updates["ScriptedChatModel"]


def test_langsmith_sees_failures_as_metadata_of_the_run() -> None:
    client = MagicMock(spec=langsmith.Client)
    with pytest.raises(QuorumError):
        guarded(ScriptedChatModel(script=[ValueError("no")])).invoke(
            question(), {"callbacks": [LangChainTracer(client=client)]}
        )
    updates = {call.kwargs["name"]: call.kwargs["extra"]["metadata"] for call in client.update_run.call_args_list}
    assert updates["SmoothGuardRunnable"]["smoothguard_error"] == "QuorumError"
