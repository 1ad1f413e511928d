"""Reports a torchvision that does not fit torch."""

from __future__ import annotations

import importlib

from smoothguard_guardrail._internal.versions import package_versions
from smoothguard_guardrail.errors import ConfigurationError


def check_torchvision(error: Exception) -> None:
    """Raise a clear error if loading a model failed and torchvision cannot be imported.

    transformers reports such a torchvision as a module of its own that is missing, or in torch's words ("operator
    torchvision::nms does not exist").

    Args:
        error: The failure to explain, kept as the cause.

    Raises:
        ConfigurationError: torchvision is installed and cannot be imported.
    """
    try:
        importlib.import_module("torchvision")
    except Exception as broken:
        if isinstance(broken, ModuleNotFoundError) and broken.name == "torchvision":
            return
        versions = package_versions(["torch", "torchvision"])
        raise ConfigurationError(
            f"torchvision {versions['torchvision']} does not fit torch {versions['torch']} ({broken}): install a "
            "matching pair, both from one index (pip install --force-reinstall torch torchvision), or uninstall "
            "torchvision"
        ) from error
