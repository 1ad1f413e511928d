"""Keeps LangChain's LLM cache out of sample calls, wherever the chat model is that would ask it.

Near-identical requests must not share one cached answer, or every vote would be unanimous.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache

_is_sample: ContextVar[bool] = ContextVar("smoothguard_is_sample", default=False)
_lock = threading.Lock()
_num_calls = 0


class _CacheBesideSamples(BaseCache):
    """The user's cache, for everyone but sample calls."""

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        return None if _is_sample.get() else self.cache.lookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        if not _is_sample.get():
            self.cache.update(prompt, llm_string, return_val)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        return None if _is_sample.get() else await self.cache.alookup(prompt, llm_string)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        if not _is_sample.get():
            await self.cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        self.cache.clear(**kwargs)

    async def aclear(self, **kwargs: Any) -> None:
        await self.cache.aclear(**kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


@contextmanager
def llm_cache_beside_samples() -> Iterator[None]:
    """Make the global LLM cache, if there is one, ignore the sample calls of this block; others use it as before."""
    _enter()
    try:
        yield
    finally:
        _leave()


def mark_as_sample() -> None:
    """Make what runs in this context count as part of a sample call."""
    _is_sample.set(True)


def _enter() -> None:
    global _num_calls
    with _lock:
        _num_calls += 1
        cache = get_llm_cache()
        if cache is not None and not isinstance(cache, _CacheBesideSamples):
            set_llm_cache(_CacheBesideSamples(cache))


def _leave() -> None:
    global _num_calls
    with _lock:
        _num_calls -= 1
        cache = get_llm_cache()
        if not _num_calls and isinstance(cache, _CacheBesideSamples):
            set_llm_cache(cache.cache)
