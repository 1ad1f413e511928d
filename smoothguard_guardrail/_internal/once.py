"""Loads what is costly to load once per process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class load_once(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Keep the last thing that a function loaded; threads that ask at the same time wait for one load.

    Attributes:
        cache_info: How often the thing was asked for and loaded, as `functools.lru_cache` counts it.

    Example:
        >>> loaded = load_once(list)
        >>> loaded() is loaded()
        True
    """

    def __init__(self, load: Callable[P, T]) -> None:
        update_wrapper(self, load)
        self._cached = lru_cache(maxsize=1)(load)
        self._lock = threading.Lock()
        self.cache_info = self._cached.cache_info

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return self._cached(*args, **kwargs)  # type: ignore[arg-type]
