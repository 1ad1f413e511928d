"""Private names of LangChain are in one file, and a missing one never lets a sample's tokens out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

import smoothguard_guardrail
from smoothguard_guardrail import ConfigurationError
from smoothguard_guardrail._langchain import private_api
from smoothguard_guardrail._langchain.sample_runs import without_tokens
from smoothguard_guardrail.testing import ScriptedChatModel
from tests.helpers import guarded, question

PACKAGE = Path(smoothguard_guardrail.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if path.name != "private_api.py"]
SEMI_PRIVATE = {"handle_event", "ahandle_event", "tracing_v2_callback_var"}
ATTRIBUTES = {"_serialized", "_dict_for_compat", "run_map", "_configure_hooks", "_agenerate", "_astream"}


def private_names(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and re.match(r"lang(chain|graph|smith)", node.module or ""):
            module = node.module or ""
            found |= {module for part in module.split(".") if part.startswith("_")}
            found |= {alias.name for alias in node.names if alias.name.startswith("_") or alias.name in SEMI_PRIVATE}
        elif isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES and ast.unparse(node.value) != "super()":
            found.add(node.attr)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_private_names_are_used_in_one_file_only(path: Path) -> None:
    assert private_names(path.read_text(encoding="utf-8")) == set()


def test_the_check_itself_finds_private_names() -> None:
    assert private_names("from langchain_core.tracers._streaming import _A\nmodel._serialized") == {
        "langchain_core.tracers._streaming",
        "_A",
        "_serialized",
    }


def test_the_installed_langchain_has_every_name() -> None:
    assert None not in private_api._STREAMING_HANDLERS
    assert None not in (private_api._HANDLE_EVENT, private_api._AHANDLE_EVENT)
    assert None not in (private_api._TRACING_VARIABLE, private_api._CONFIGURE_HOOKS)


class Listener(BaseCallbackHandler):
    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.events.append("sample")

    def on_custom_event(self, name: str, *_: Any, **__: Any) -> None:
        self.events.append(name)


@pytest.mark.parametrize("missing", [[None, None], [object, None]], ids=["both", "one"])
def test_without_known_streaming_handlers_samples_have_no_handlers(
    missing: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_api, "_STREAMING_HANDLERS", missing)
    listener = Listener()
    assert without_tokens([listener]) == []
    result = guarded(ScriptedChatModel(script=["Hi."])).guard(question(), {"callbacks": [listener]})
    assert result.answer.text == "Hi."
    assert "sample" not in listener.events
    assert "smoothguard.verdict" in listener.events


@pytest.mark.parametrize("name", ["_TRACING_VARIABLE", "_CONFIGURE_HOOKS"])
def test_untraced_samples_are_refused_where_they_could_be_traced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_api, name, None)
    traced = guarded(ScriptedChatModel(script=["Hi."]), trace_samples=True)
    assert traced.invoke(question()).text == "Hi."
    untraced = guarded(ScriptedChatModel(script=["Hi."]), trace_samples=False)
    with pytest.raises(Exception, match="trace_samples=True") as caught:
        untraced.invoke(question())
    assert isinstance(caught.value, ConfigurationError)


async def test_without_a_dispatcher_calls_still_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_api, "_HANDLE_EVENT", None)
    monkeypatch.setattr(private_api, "_AHANDLE_EVENT", None)
    listener = Listener()
    guard = guarded(ScriptedChatModel(script=["Hi."]))
    assert guard.invoke(question(), {"callbacks": [listener]}).text == "Hi."
    assert (await guard.ainvoke(question(), {"callbacks": [listener]})).text == "Hi."
    assert not [event for event in listener.events if event != "sample"]
