"""Package names that are imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package that loads its names on first use.

    Args:
        package: The package's `__name__`.
        modules: For each public name, the module below the package that defines it.

    Example:
        >>> load, names = lazy_exports("smoothguard_guardrail", {"SmoothGuardConfig": "config"})
        >>> load("SmoothGuardConfig").__name__, names()
        ('SmoothGuardConfig', ['SmoothGuardConfig'])
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return load, lambda: sorted(modules)
