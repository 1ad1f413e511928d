"""A multimodal model and its processor, from a folder or the hub."""

from __future__ import annotations

from typing import Any

import torch

from smoothguard_guardrail._internal.quiet import without_bars_for_local
from smoothguard_guardrail._internal.torchvision import check_torchvision
from smoothguard_guardrail.errors import ConfigurationError

_SHARED_WITH_PROCESSOR = ("token", "cache_dir", "subfolder", "trust_remote_code")


def pick_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" is CUDA, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(
    path_or_id: str,
    *,
    device: str,
    dtype: str | torch.dtype,
    revision: str | None,
    local_files_only: bool,
    **model_kwargs: Any,
) -> tuple[Any, Any]:
    """Load a model, in inference mode on its device, and its processor.

    Args:
        path_or_id: A folder or a hub id.
        device: "auto" or a torch device. Ignored with a `device_map` among the model's arguments.
        dtype: "auto" (float32 on a CPU, else the checkpoint's), a torch dtype or the name of one.
        revision: Branch, tag or commit on the hub.
        local_files_only: Never ask the hub.
        **model_kwargs: For the model's `from_pretrained`.

    Returns:
        The model and the processor.

    Raises:
        ConfigurationError: The architecture is not a multimodal chat model, or torchvision does not fit torch.
        OSError: The folder or hub id does not exist, or lacks a file.
    """
    try:
        return _load(
            path_or_id, device, dtype, {"revision": revision, "local_files_only": local_files_only}, model_kwargs
        )
    except Exception as error:
        check_torchvision(error)
        raise


def _load(
    path_or_id: str,
    device: str,
    dtype: str | torch.dtype,
    where: dict[str, Any],
    model_kwargs: dict[str, Any],
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoProcessor

    both = where | {key: model_kwargs[key] for key in _SHARED_WITH_PROCESSOR if key in model_kwargs}
    processor = AutoProcessor.from_pretrained(path_or_id, **both)  # type: ignore[no-untyped-call]
    auto_class = _auto_class(AutoConfig.from_pretrained(path_or_id, **both))
    target = pick_device(device)
    if dtype == "auto" and target.type == "cpu" and "device_map" not in model_kwargs:
        dtype = torch.float32
    with without_bars_for_local(path_or_id):
        model = auto_class.from_pretrained(path_or_id, dtype=dtype, **where, **model_kwargs)
    if "device_map" not in model_kwargs:
        model = model.to(target)
    return model.eval(), processor


def _auto_class(config: Any) -> Any:
    import transformers

    for name in ("AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
        auto_class = getattr(transformers, name, None)
        if auto_class is None:
            continue
        remote = getattr(config, "auto_map", None) or {}
        if type(config) in auto_class._model_mapping or name in remote:
            return auto_class
    raise ConfigurationError(
        f"expected a model that takes images or audio in a chat, got a {config.model_type!r} model"
    )
