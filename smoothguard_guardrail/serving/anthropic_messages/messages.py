"""Messages of a Messages API request, and the messages of LangChain that they become."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolCall, ToolMessage
from pydantic import Field

from smoothguard_guardrail.serving.anthropic_messages.blocks import (
    AssistantContent,
    Part,
    Strict,
    Texts,
    ToolResultBlock,
    ToolUseBlock,
    UserContent,
)


class _UserMessage(Strict):
    role: Literal["user"]
    content: UserContent

    def messages(self) -> list[BaseMessage]:
        """Return a message per tool result, and one for what stands between, before or after them."""
        found: list[BaseMessage] = []
        parts: list[Part] = []
        for block in self.content:
            if not isinstance(block, ToolResultBlock):
                parts += block.parts()
                continue
            found += _human(parts)
            parts = []
            status: Any = "error" if block.is_error else "success"
            found.append(ToolMessage(_content(block.parts()), tool_call_id=block.tool_use_id, status=status))
        return [*found, *_human(parts)]


class _AssistantMessage(Strict):
    role: Literal["assistant"]
    content: AssistantContent

    def messages(self) -> list[BaseMessage]:
        """Return one message: texts and tool calls; reasoning is dropped."""
        calls = [
            ToolCall(name=block.name, args=block.input, id=block.id, type="tool_call")
            for block in self.content
            if isinstance(block, ToolUseBlock)
        ]
        parts = [part for block in self.content for part in block.parts()]
        return [AIMessage(_content(parts), tool_calls=calls)]


class _SystemMessage(Strict):
    role: Literal["system"]
    content: Texts

    def messages(self) -> list[BaseMessage]:
        """Return one message."""
        return system_messages(self.content)


Message = Annotated[_UserMessage | _AssistantMessage | _SystemMessage, Field(discriminator="role")]


def request_messages(system: Texts | None, messages: Iterable[Message]) -> list[BaseMessage]:
    """Return a request's messages. All that they hold stands where the guard looks for media."""
    return [*system_messages(system or []), *(each for message in messages for each in message.messages())]


def system_messages(texts: Texts) -> list[BaseMessage]:
    """Return the system's texts as one message; none without texts."""
    return [SystemMessage(_content([part for block in texts for part in block.parts()]))] if texts else []


def _human(parts: list[Part]) -> list[BaseMessage]:
    return [HumanMessage(_content(parts))] if parts else []


def _content(parts: list[Part]) -> Any:
    """Return parts as content: a lone text as a string, which every model takes."""
    if not parts:
        return ""
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts
