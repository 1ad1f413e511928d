"""From the name of a chat model to the model: the only place that reads such names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail.errors import ConfigurationError, SmoothGuardError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def load_model(name: str, *, device: str = "auto") -> BaseChatModel:
    """Load the chat model that a name stands for.

    Args:
        name: `reference`, the shipped model; `hf:PATH`, a folder or hub id of a Hugging Face model; or what
            `langchain.chat_models.init_chat_model` takes, such as `openai:gpt-4o` or `gpt-4o`.
        device: Where a local model runs: `auto` (CUDA, else MPS, else CPU) or a torch device. Ignored for a
            provider's model.

    Raises:
        ConfigurationError: There is no such model, or its provider's package is not installed.

    Example:
        >>> load_model("reference", device="cpu").image_input_size(48, 48)
        (96, 96)
    """
    kind, colon, path = name.partition(":")
    if not kind or (colon and not path):
        raise ConfigurationError(
            f"expected the name of a model, got {name!r}: give reference, hf:PATH, PROVIDER:NAME or NAME"
        )
    try:
        if name == "reference":
            return _reference_model(device)
        return _local_model(path, device=device) if kind == "hf" and colon else _provider_model(name)
    except SmoothGuardError:
        raise
    except (OSError, ImportError, ValueError) as error:
        raise ConfigurationError(f"model {name!r} cannot be loaded: {error}") from error


def _reference_model(device: str) -> BaseChatModel:
    from smoothguard_guardrail.models.reference import reference_path

    return _local_model(str(reference_path()), device=device, local_files_only=True)


def _local_model(path: str, *, device: str, local_files_only: bool = False) -> BaseChatModel:
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

    return ChatTransformersMultimodal.from_pretrained(path, device=device, local_files_only=local_files_only)


def _provider_model(name: str) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    return init_chat_model(name)
