"""Versions of installed packages, for records."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of these packages; `not installed` for missing ones.

    Example:
        >>> package_versions(["no-such-package"])["no-such-package"]
        'not installed'
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
