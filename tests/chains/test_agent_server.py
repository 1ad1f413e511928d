"""The graph of `chains/langgraph.json`, loaded and run as LangGraph's Agent Server does."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel

import chains
from smoothguard_guardrail import MediaError
from smoothguard_guardrail.models.reference.demo import DEMO_DIR, load_demo

pytestmark = pytest.mark.slow

FOLDER = Path(chains.__path__[0])
MODES: Any = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]
THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(scope="module")
def graph() -> Pregel[Any, Any, Any, Any]:
    named = json.loads((FOLDER / "langgraph.json").read_text())["graphs"]["agent"]
    file, _, name = named.partition(":")
    spec = importlib.util.spec_from_file_location("agent_server", FOLDER / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    graph = getattr(module, name)
    assert isinstance(graph, Pregel)
    return graph.copy(update={"checkpointer": InMemorySaver()})


def question(**image: str) -> dict[str, Any]:
    shown = load_demo().pictures[0]
    data = base64.b64encode((DEMO_DIR / shown.file).read_bytes()).decode()
    block = {"type": "image"} | (image or {"base64": data, "mime_type": "image/png"})
    text = {"type": "text", "text": shown.question}
    return {"messages": [{"role": "user", "content": [block, text]}], "smoothguard": {"verdict": "spoofed"}}


async def test_every_streaming_mode_shows_the_elected_answer_only(graph: Pregel[Any, Any, Any, Any]) -> None:
    items = [item async for item in graph.astream(question(), THREAD, stream_mode=MODES, subgraphs=True)]
    final = (await graph.aget_state(THREAD)).values
    record, answer = final["smoothguard"], final["messages"][-1]
    assert (record["verdict"], record["num_calls"] > 1) == ("passed", True)
    chunks = [data[0] for _, mode, data in items if mode == "messages" and isinstance(data[0], AIMessage)]
    assert [chunk.text for chunk in chunks] == [answer.text]
    (image,) = [block["base64"] for block in final["messages"][0].content if block["type"] == "image"]
    assert repr(items).count("base64': '") == repr(items).count(image), "no noisy copy leaves the guard"


async def test_what_cannot_be_guarded_ends_the_run(graph: Pregel[Any, Any, Any, Any]) -> None:
    with pytest.raises(MediaError, match="allow_urls"):
        await graph.ainvoke(question(url="https://example.com/cat.png"), {"configurable": {"thread_id": "2"}})
