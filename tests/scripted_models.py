"""Scripted models for the tests of hosts: one that streams its words natively, one that does as standard tests ask."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from smoothguard_guardrail.testing import AsyncScriptedChatModel


class StreamingChatModel(AsyncScriptedChatModel):
    """Answers by a script, takes tools, and streams word by word, as provider clients do."""

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=tool_choice, **kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from _chunks(self._generate(messages, stop, run_manager))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(await self._agenerate(messages, stop, run_manager)):
            yield chunk


def _chunks(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    message = result.generations[0].message
    assert isinstance(message, AIMessage)
    for word in message.text.split(" "):
        yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
    last = AIMessageChunk(
        content="", tool_calls=message.tool_calls, usage_metadata=message.usage_metadata, chunk_position="last"
    )
    yield ChatGenerationChunk(message=last)


class StandardChatModel(BaseChatModel):
    """A model that can all that langchain-tests knows of: tools, JSON, pictures, recordings, any parameter.

    It calls the tool that it is told to, or the first one unless the request holds a tool's result, with arguments
    made up after the tool's schema and the figures in the question.
    """

    model_name: str = "standard-1"
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    timeout: float | None = None
    max_retries: int | None = None
    streaming: bool = False
    api_key: str | None = None

    @property
    def _llm_type(self) -> str:
        return "standard"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop or self.stop, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=tool_choice, **kwargs)

    def with_structured_output(
        self, schema: Any, *, method: str = "function_calling", include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser

        described = convert_to_openai_tool(schema)["function"]["parameters"]
        shape = {"kwargs": {"method": method}, "schema": schema}
        bound = self.bind(response_format=described, ls_structured_output_format=shape)
        parser = PydanticOutputParser(pydantic_object=schema) if isinstance(schema, type) else JsonOutputParser()
        return bound | parser

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        model: str | None = None,
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: str | None = None,
        response_format: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        question = "\n".join(message.text for message in messages)
        text, calls = f"You said {len(question)} letters.", []
        chosen = [tool["function"] for tool in tools if tool["function"]["name"] == tool_choice or tool_choice == "any"]
        if tools and not chosen and not isinstance(messages[-1], ToolMessage):
            chosen = [tools[0]["function"]]
        if chosen:
            arguments = _made_up(chosen[0]["parameters"], question)
            text, calls = "", [{"name": chosen[0]["name"], "args": arguments, "id": "call-1", "type": "tool_call"}]
        elif response_format:
            text = json.dumps(_made_up(response_format, question))
        message = AIMessage(
            text,
            tool_calls=calls,
            response_metadata={"model_name": model or self.model_name},
            usage_metadata={"input_tokens": len(messages), "output_tokens": 2, "total_tokens": len(messages) + 2},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def _made_up(schema: dict[str, Any], question: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, property_ in schema.get("properties", {}).items():
        values[name] = 3 if property_.get("type") == "integer" else f"{name}: {question[-60:]}"
    return values
