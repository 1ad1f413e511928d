"""Packages of the extra `media`, which decode what the base install does not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from smoothguard_guardrail.errors import MissingDependencyError, UnsupportedMediaError


def import_decoder(module: str, package: str, *, mime_type: str, path: str) -> Any:
    """Return a module of the extra.

    Raises:
        UnsupportedMediaError: It is not installed; the message names the pip command.
    """
    try:
        return import_module(module)
    except ImportError as error:
        missing = MissingDependencyError(package, "media")
        raise UnsupportedMediaError(f"{mime_type} cannot be decoded: {missing}", path=path) from error
