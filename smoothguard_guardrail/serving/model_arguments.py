"""What a request's parameters become for the chat model inside the guard."""

from __future__ import annotations

import warnings
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence

from smoothguard_guardrail._langchain import private_api
from smoothguard_guardrail.errors import SmoothGuardError
from smoothguard_guardrail.serving.errors import ApiError
from smoothguard_guardrail.serving.model_parameters import ModelParameters, ResponseFormat

_LENGTH_FIELDS = ("max_tokens", "max_new_tokens", "max_output_tokens")
"""Names of the answer length limit in chat models."""
_PENALTIES = ("frequency_penalty", "presence_penalty")
_DECLARED = (*_PENALTIES, "top_k", "logit_bias", "reasoning_effort", "verbosity")
"""Parameters that only some providers know; their models declare these as fields."""
_UNSUPPORTED_ERRORS = (
    NotImplementedError,
    AttributeError,
    ValueError,
    TypeError,
    KeyError,
    UserWarning,
    SmoothGuardError,
)


def model_arguments(request: ModelParameters, model: Runnable[Any, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the keyword arguments of the model call, and the names of parameters that the model does not know.

    Args:
        request: What the client asks of the model.
        model: The chat model inside the guard.

    Raises:
        ApiError: If the request has tools, a response format or asks for audio, and the model does not support it.
    """
    arguments: dict[str, Any] = {}
    fields = getattr(type(model), "model_fields", {})
    length = request.max_completion_tokens or request.max_tokens
    if length is not None:
        arguments[next((name for name in _LENGTH_FIELDS if name in fields), _LENGTH_FIELDS[0])] = length
    ignored = []
    for name in ("temperature", "top_p", *_DECLARED):
        value = getattr(request, name)
        if value is None or (name in _PENALTIES and value == 0):  # many clients always send a penalty of 0
            continue
        if name in _DECLARED and name not in fields and _declares(model):
            ignored.append(name)
        else:
            arguments[name] = value
    if request.stop:
        arguments["stop"] = [request.stop] if isinstance(request.stop, str) else request.stop
    arguments |= _audio_arguments(request, model)
    return arguments | _tool_arguments(request, model) | _format_arguments(request.response_format, model), ignored


def _declares(model: Runnable[Any, Any]) -> bool:
    """Return whether a model declares the parameters that it takes. Others get all of them."""
    module = type(model).__module__
    return module.startswith(("langchain_", "smoothguard_guardrail.models")) and not module.startswith("langchain_core")


def _audio_arguments(request: ModelParameters, model: Any) -> dict[str, Any]:
    if not request.is_spoken or request.audio is None:
        return {}
    profile = getattr(model, "profile", None) or {}
    is_openai = any(each.__module__.startswith("langchain_openai.") for each in type(model).__mro__)
    if profile.get("audio_outputs") is False or (_declares(model) and not is_openai):
        raise _unsupported("modalities")
    return {"modalities": request.modalities, "audio": request.audio.model_dump()}


def _tool_arguments(request: ModelParameters, model: Any) -> dict[str, Any]:
    if not request.tools:
        return {}
    choice = _tool_choice(request.tool_choice)
    options: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    if request.parallel_tool_calls is not None:
        options["parallel_tool_calls"] = request.parallel_tool_calls
    try:
        bound = model.bind_tools(request.tools, **options)
    except (NotImplementedError, AttributeError, SmoothGuardError):
        raise _unsupported("tools") from None
    except (ValueError, TypeError, KeyError):
        raise ApiError(400, "invalid_request", "tools must be a list of OpenAI function tools", param="tools") from None
    if not isinstance(bound, RunnableBinding):
        raise _unsupported("tools")
    arguments = dict(bound.kwargs)
    if choice == "none" and arguments.get("tool_choice") == {"type": "tool", "name": "none"}:
        arguments["tool_choice"] = {"type": "none"}  # `ChatAnthropic` takes the word for a tool's name
    return arguments


def _tool_choice(given: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    """Return OpenAI's tool choice in the words that every `bind_tools` takes."""
    if given == "required":
        return "any"
    function = given.get("function") if isinstance(given, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else given


def _format_arguments(wanted: ResponseFormat | None, model: Any) -> dict[str, Any]:
    if wanted is None or wanted.type == "text":
        return {}
    if _takes_response_format(model):
        return {"response_format": wanted.model_dump(exclude_none=True)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a method that the provider would replace by another
            return _provider_format(wanted, model)
    except _UNSUPPORTED_ERRORS:
        raise _unsupported("response_format") from None


def _takes_response_format(model: Any) -> bool:
    if not isinstance(model, BaseChatModel):
        return False
    if "response_format" in type(model).model_fields or "response_format" in private_api.call_parameters(model):
        return True
    # A provider of its own that takes OpenAI's tools takes OpenAI's other parameters.
    return type(model).bind_tools is not BaseChatModel.bind_tools and not _declares(model)


def _provider_format(wanted: ResponseFormat, model: Any) -> dict[str, Any]:
    """Return what a provider's own structured output binds to its model.

    Raises:
        NotImplementedError: If it does so by calling a tool, or not at all. Errors of the provider are also raised.
    """
    if wanted.type == "json_schema":
        described = wanted.json_schema or {}
        schema = {"title": str(described.get("name") or "answer"), **described["schema"]}
        structured = model.with_structured_output(schema, method="json_schema", include_raw=True)
    else:
        structured = model.with_structured_output(None, method="json_mode", include_raw=True)
    first = structured.first if isinstance(structured, RunnableSequence) else None
    bound = first.steps__.get("raw") if isinstance(first, RunnableParallel) else None
    if not isinstance(bound, RunnableBinding) or "tools" in bound.kwargs:
        raise NotImplementedError
    return {name: value for name, value in bound.kwargs.items() if name != "ls_structured_output_format"}


def _unsupported(name: str) -> ApiError:
    return ApiError(400, "unsupported_parameter", f"this model does not support {name}, send none", param=name)
