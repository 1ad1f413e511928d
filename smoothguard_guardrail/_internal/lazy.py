"""Package names that are imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package that loads its names on first use.

    Args:
        package: The package's `__name__`.
        modules: For each module below the package, the public names that it defines.

    Example:
        >>> load, names = lazy_exports("smoothguard_guardrail", {"config": ("SmoothGuardConfig",)})
        >>> load("SmoothGuardConfig").__name__, names()
        ('SmoothGuardConfig', ['SmoothGuardConfig'])
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return load, lambda: sorted(homes)
