"""Chat models by name, as commands and evaluations take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError, SmoothGuardError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def load_model(spec: str, *, device: str = "auto") -> BaseChatModel:
    """Return the chat model that a name stands for.

    Args:
        spec: `reference`, the shipped model; `hf:PATH`, a Hugging Face folder or hub id; or `PROVIDER:NAME` for
            `langchain.chat_models.init_chat_model`.
        device: Where a local model runs: `auto` (cuda, else mps, else cpu) or a torch device. A provider's model
            does not ask.

    Raises:
        ConfigurationError: If there is no such model, or its provider's package is not installed.
    """
    try:
        if spec == "reference":
            return _reference(device)
        kind, _, name = spec.partition(":")
        if not name:
            raise ConfigurationError(f"unknown model {spec!r}: give reference, hf:PATH or PROVIDER:NAME")
        return _local(name, device=device) if kind == "hf" else _hosted(spec)
    except SmoothGuardError:
        raise
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(f"model {spec!r} cannot be loaded: {error}") from error


def _reference(device: str) -> BaseChatModel:
    from smoothguard_guardrail.models.reference import reference_path

    return _local(str(reference_path()), device=device, local_files_only=True)


def _local(name: str, *, device: str, local_files_only: bool = False) -> BaseChatModel:
    from smoothguard_guardrail.models import ChatTransformersMultimodal

    return ChatTransformersMultimodal.from_pretrained(name, device=device, local_files_only=local_files_only)


def _hosted(spec: str) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    return init_chat_model(spec)
