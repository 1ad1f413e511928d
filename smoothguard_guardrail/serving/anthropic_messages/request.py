"""The body of `POST /v1/messages`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from smoothguard_guardrail.serving.anthropic_messages.blocks import Strict, Texts
from smoothguard_guardrail.serving.anthropic_messages.messages import Message
from smoothguard_guardrail.serving.model_parameters import ModelParameters, ResponseFormat
from smoothguard_guardrail.serving.request_body import parse_body

_UNSUPPORTED = {
    "container": "containers run code at the provider and are not guarded, send none",
    "mcp_servers": "MCP servers that the provider calls are not guarded, call them and send tool results",
}
"""Parameters that would change what the guard guards, and what to do instead."""
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Tool(Strict):
    """A tool of the client's own."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    type: Literal["custom"] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None

    # Accepted, without effect.
    cache_control: Any = None
    eager_input_streaming: Any = None
    input_examples: Any = None

    def as_function(self) -> dict[str, Any]:
        """Return the tool in OpenAI's form, which every `bind_tools` takes."""
        optional = {"description": self.description, "strict": self.strict}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"type": "function", "function": {"name": self.name, "parameters": self.input_schema, **given}}


class ToolChoice(Strict):
    """Which tools the model may or must call."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(Strict):
    """The JSON that the answer must be."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    """How the answer must look, and how much the model thinks about it."""

    effort: str | None = None
    format: OutputFormat | None = None


class MessagesRequest(BaseModel):
    """A request."""

    model_config: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    model: str
    max_tokens: int = Field(gt=0)
    messages: list[Message] = Field(min_length=1)
    system: Texts | None = None
    stream: bool | None = None

    # Passed on to the model.
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None

    # Accepted, without effect on answers.
    metadata: Any = None
    service_tier: Any = None
    cache_control: Any = None
    diagnostics: Any = None
    inference_geo: Any = None
    speed: Any = None

    @field_validator("tools", mode="before")
    @classmethod
    def _no_tools_of_the_provider(cls, tools: Any) -> Any:
        for tool in tools if isinstance(tools, list) else ():
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind not in (None, "custom"):
                raise ValueError(f"{str(kind)[:40]!r} is one of Anthropic's tools, not guarded: send custom tools only")
        return tools

    def parameters(self) -> ModelParameters:
        """Return what the client asks of the model, under OpenAI's names."""
        choice, output = self.tool_choice, self.output_config or OutputConfig()
        return ModelParameters(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop_sequences,
            tools=[tool.as_function() for tool in self.tools or ()] or None,
            tool_choice=_choice(choice) if choice else None,
            parallel_tool_calls=False if choice and choice.disable_parallel_tool_use else None,
            reasoning_effort=output.effort,
            response_format=_response_format(output.format) if output.format else None,
        )


def parse_request(body: Any) -> tuple[MessagesRequest, list[str]]:
    """Parse a request body.

    Returns:
        The request, and the names of the parameters that the server ignores.

    Raises:
        ApiError: If the body is not a request, or asks for something that is not supported.
    """
    request, ignored = parse_body(body, MessagesRequest, unsupported=_UNSUPPORTED, guarded={"messages", "system"})
    return request, [name for name in ignored if name != "thinking" or body[name] != {"type": "disabled"}]


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    return _CHOICES.get(choice.type) or {"type": "function", "function": {"name": choice.name or ""}}


def _response_format(wanted: OutputFormat) -> ResponseFormat:
    return ResponseFormat(type="json_schema", json_schema={"name": "answer", "schema": wanted.schema_})
