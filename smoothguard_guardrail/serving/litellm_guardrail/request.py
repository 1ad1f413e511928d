"""The body of `POST /beta/litellm_basic_guardrail_api`, and its messages as LangChain's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_openai_data_block
from pydantic import BaseModel, ConfigDict, ValidationError

from smoothguard_guardrail.serving.errors import ApiError, describe_problems

Row = dict[str, Any]
"""One message in OpenAI's shape, or in another provider's."""


class GuardrailRequest(BaseModel):
    """What LiteLLM shows a guardrail of one request to a model. Fields that say who asks are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    input_type: Literal["request", "response"]
    structured_messages: list[Row] | None = None
    texts: list[str] | None = None
    images: list[str] | None = None
    tools: list[Any] | None = None
    tool_calls: list[Any] | None = None
    additional_provider_specific_params: dict[str, Any] | None = None
    """From LiteLLM's configuration and from the client, so it configures nothing here."""
    model: str | None = None
    litellm_version: str | None = None

    @property
    def other_parts(self) -> dict[str, Any]:
        """What the model may see beside the messages."""
        parts = {
            "tools": self.tools,
            "tool_calls": None if self.structured_messages else self.tool_calls,
            "parameters": self.additional_provider_specific_params,
            "texts": None if self.structured_messages else self.texts,
        }
        return {name: value for name, value in parts.items() if value}


def parse_request(body: Any) -> GuardrailRequest:
    """Parse a body.

    Raises:
        ApiError: It is not a request of a guardrail.
    """
    try:
        return GuardrailRequest.model_validate(body)
    except ValidationError as error:
        raise ApiError(400, "invalid_request", describe_problems(error.errors())) from None


def to_message(row: Row) -> BaseMessage:
    """Return a message that holds all that a row holds, for the guard to search, however little the row is standard.

    Raises:
        ApiError: The content is neither text nor a list of parts.
    """
    kind = AIMessage if row.get("role") == "assistant" else HumanMessage
    others = {name: value for name, value in row.items() if name not in ("role", "content")}
    try:
        return kind(content=row.get("content") or "", additional_kwargs=others)
    except ValidationError:
        raise ApiError(400, "invalid_request", "the content must be text or a list of typed parts") from None


def to_row(message: BaseMessage, row: Row) -> Row:
    """Return a row with what its message holds now. The pages of a PDF become parts that LiteLLM knows."""
    parts = message.content if isinstance(message.content, str) else [_part(part) for part in message.content]
    content = {"content": parts} if row.get("content") else {}
    return row | message.additional_kwargs | content


def texts_in(value: Any) -> Iterator[str]:
    """Yield every string in JSON values, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def _part(part: Any) -> Any:
    is_langchains = isinstance(part, dict) and part.get("type") in ("image", "audio") and "base64" in part
    return convert_to_openai_data_block(part) if is_langchains else part
