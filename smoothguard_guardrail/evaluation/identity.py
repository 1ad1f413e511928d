"""Identity of a model: a changed model never gets the stored answers of another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue

from smoothguard_guardrail.errors import ConfigurationError
from smoothguard_guardrail.evaluation.fingerprints import folder_sha256
from smoothguard_guardrail.evaluation.records import Record

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


# Fields with the server's address: two servers may serve different models under one name.
_ENDPOINTS = ("base_url", "openai_api_base", "azure_endpoint", "anthropic_api_url")


class ModelIdentity(Record):
    """Identifies a model."""

    name: str
    """As requested, such as `reference` or `openai:gpt-4o`; for an object, its class and name."""
    revision: str | None = None
    """Commit on the Hugging Face hub."""
    weights_sha256: str | None = None
    """Over all files of a local model's folder; for an object, over its weights and chat template."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Decoding settings of an object, as far as they are known."""

    @property
    def key(self) -> dict[str, JsonValue]:
        """What answers depend on; with a hash of the weights the name does not matter, since folders may be moved."""
        return self.model_dump(mode="json", exclude={"name"} if self.weights_sha256 else set())


def identify(model: str | BaseChatModel, *, memory: Path | None = None) -> ModelIdentity:
    """Identify a model without loading it.

    Args:
        model: A name for `load_model`, or a chat model.
        memory: File that stores the hashes of weight files.

    Raises:
        ConfigurationError: A local model's folder or hub id does not exist.
        InputError: A file of its folder cannot be read.
    """
    if not isinstance(model, str):
        return _identify_object(model)
    if model == "reference":
        from smoothguard_guardrail.models.reference import reference_path

        return ModelIdentity(name=model, weights_sha256=folder_sha256(reference_path(), memory=memory))
    kind, _, name = model.partition(":")
    if kind != "hf":
        return ModelIdentity(name=model)
    if Path(name).is_dir():
        return ModelIdentity(name=model, weights_sha256=folder_sha256(Path(name), memory=memory))
    return ModelIdentity(name=model, revision=_hub_commit(name))


def _hub_commit(name: str) -> str | None:
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        return extract_commit_hash(cached_file(name, "config.json"), None)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"model 'hf:{name}' cannot be loaded: {error}") from error


def _identify_object(model: BaseChatModel) -> ModelIdentity:
    from smoothguard_guardrail.models.transformers_chat import ChatTransformersMultimodal

    known = {**model._identifying_params, **_sampling(model)}
    settings = {key: _setting(value) for key, value in known.items() if value is not None}
    if endpoint := next((str(url) for name in _ENDPOINTS if (url := getattr(model, name, None))), None):
        settings["endpoint"] = _mark(endpoint)
    label = f"{type(model).__module__}.{type(model).__qualname__}"
    if not isinstance(model, ChatTransformersMultimodal):
        return ModelIdentity(name=label, settings=settings)
    return ModelIdentity(
        name=f"{label}:{model.model_name}",
        revision=model.revision,
        weights_sha256=_weights_sha256(model),
        settings=settings,
    )


def _sampling(model: BaseChatModel) -> dict[str, Any]:
    names = ("model", "model_name", "temperature", "top_p", "max_tokens", "max_new_tokens")
    return {name: getattr(model, name, None) for name in names}


def _setting(value: Any) -> JsonValue:
    """Return a setting for the record; structured ones are hashed, since headers may contain secrets."""
    return value if isinstance(value, str | int | float | bool) else _mark(value)


def _mark(value: Any) -> str:
    text = json.dumps(value, skipkeys=True, default=lambda each: type(each).__name__)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _weights_sha256(model: Any) -> str:
    import torch

    digest = hashlib.sha256(str(getattr(model.processor, "chat_template", "")).encode())
    for name, value in model.hf_model.state_dict().items():
        if torch.is_tensor(value):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
