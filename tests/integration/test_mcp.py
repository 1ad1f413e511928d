"""Media in the results of MCP tools: an agent's model gets noisy copies only, from a real server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from langchain_openai import ChatOpenAI
from mcp.types import AudioContent, CallToolResult

from smoothguard_guardrail import MediaError, SmoothGuardChatModel, SmoothGuardMiddleware
from tests.helpers import components_of, config_of
from tests.integration.mcp_server import server
from tests.integration.recording import recording_server
from tests.integration.replies import REPLIES, TEXT
from tests.media.corpus import arrives_unperturbed, originals
from tests.scripted_models import StreamingChatModel
from tests.serving.servers import running, url_of

pytestmark = [pytest.mark.server, pytest.mark.slow]

GUARDED = (
    "image",
    "audio",
    "embedded_image",
    "embedded_audio",
    "embedded_pdf",
    "embedded_text",
    "structured",
    "failing",
)
REFUSED = {"embedded_unknown": "unknown format", "link": "allow_urls"}
STDIO: Any = {
    "transport": "stdio",
    "command": sys.executable,
    "args": ["-m", "tests.integration.mcp_server"],
    "cwd": str(Path(__file__).parents[2]),
}


async def audio_as_block(request: Any, call: Any) -> Any:
    """Convert audio, which the adapters do not know: an interceptor as in docs/agents.md."""
    result: CallToolResult = await call(request)
    if not any(isinstance(part, AudioContent) for part in result.content):
        return result
    blocks: Any = [
        {"type": "audio", "base64": part.data, "mime_type": part.mimeType}
        for part in result.content
        if isinstance(part, AudioContent)
    ]
    return ToolMessage(blocks, tool_call_id=request.runtime.tool_call_id)


@pytest.fixture(scope="session")  # the server can be started once only, and a worker may come back to this module
def url() -> Any:
    with running(server.streamable_http_app()) as running_server:
        yield f"{url_of(running_server)}/mcp"


@pytest.fixture
async def tools(url: str) -> list[BaseTool]:
    client = MultiServerMCPClient(
        {"media": {"transport": "streamable_http", "url": url}}, tool_interceptors=[audio_as_block]
    )
    return await client.get_tools()


def caller(tool: str) -> StreamingChatModel:
    """Calls a tool, then says what it has seen."""

    def script(messages: list[BaseMessage]) -> AIMessage:
        if isinstance(messages[-1], ToolMessage):
            return AIMessage("A cat.")
        return AIMessage("", tool_calls=[{"name": tool, "args": {}, "id": "call", "type": "tool_call"}])

    return StreamingChatModel(script=script)


def agent_of(host: str, model: Any, tools: list[BaseTool]) -> Any:
    config, components = config_of(num_samples=3, early_stop=None), components_of()
    if host == "middleware":
        return create_agent(model, tools, middleware=[SmoothGuardMiddleware(config, components=components)])
    return create_agent(SmoothGuardChatModel(model, config, components=components), tools)


def sent(model: StreamingChatModel) -> list[BaseMessage]:
    """Return all that a model may send of what it received: no adapter sends artifacts."""
    return [
        message.model_copy(update={"artifact": None}) if isinstance(message, ToolMessage) else message
        for messages in model.received
        for message in messages
    ]


@pytest.mark.parametrize("host", ["middleware", "chat model"])
@pytest.mark.parametrize("tool", GUARDED)
async def test_the_model_gets_noisy_copies_of_what_tools_return(host: str, tool: str, tools: list[BaseTool]) -> None:
    model = caller(tool)
    state = await agent_of(host, model, tools).ainvoke({"messages": [("human", "Look.")]})
    final = state["messages"][-1]
    assert final.text == "A cat."
    assert final.response_metadata["smoothguard"]["verdict"] == "passed"
    assert final.response_metadata["smoothguard"]["num_calls"] == 3
    assert not arrives_unperturbed(sent(model))
    assert arrives_unperturbed(state["messages"]), "the state keeps what the tool returned"


@pytest.mark.parametrize("tool", REFUSED)
async def test_what_cannot_be_guarded_never_reaches_the_model(tool: str, tools: list[BaseTool]) -> None:
    model = caller(tool)
    with pytest.raises(MediaError, match=REFUSED[tool]):
        await agent_of("middleware", model, tools).ainvoke({"messages": [("human", "Look.")]})
    assert not any(isinstance(message, ToolMessage) for message in sent(model))


async def test_it_is_the_same_over_stdio() -> None:
    model = caller("image")
    async with MultiServerMCPClient({"media": STDIO}).session("media") as session:
        tools = await load_mcp_tools(session)
        state = await agent_of("middleware", model, tools).ainvoke({"messages": [("human", "Look.")]})
    assert state["smoothguard"]["verdict"] == "passed"
    assert not arrives_unperturbed(sent(model))


async def test_no_original_and_no_artifact_is_on_the_wire(tools: list[BaseTool]) -> None:
    def answer(path: str, body: bytes) -> bytes:
        reply = json.loads(json.dumps(REPLIES["/chat/completions"]))
        if json.loads(body)["messages"][-1]["role"] != "tool":
            function = {"name": "image", "arguments": "{}"}
            calls = [{"id": "call", "type": "function", "function": function}]
            reply["choices"][0] |= {
                "message": {"role": "assistant", "content": None, "tool_calls": calls},
                "finish_reason": "tool_calls",
            }
        return json.dumps(reply).encode()

    with recording_server(answer) as provider:
        model = ChatOpenAI(model="gpt", base_url=provider.base_url, api_key="none", max_retries=0)  # type: ignore[arg-type]
        state = await agent_of("middleware", model, tools).ainvoke({"messages": [("human", "Look.")]})
    assert state["messages"][-1].text == TEXT
    assert state["messages"][-2].artifact, "the server sends structured content, which holds the image again"
    wire = json.dumps(provider.bodies).encode()
    assert wire.count(b"data:image/") == 3
    assert b"structured_content" not in wire
    assert not any(original in wire for original in originals())
