"""Shared by all tasks of one process: a loaded model, and a caching embedder."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from smoothguard_guardrail._internal.once import load_once
from smoothguard_guardrail.models import load_model
from smoothguard_guardrail.voting import default_embedder

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.protocols import Embedder


class CachedEmbeddings(Embeddings):
    """An embedder that embeds each text once: thousands of answers repeat a few sentences.

    Threads may share it; a lock keeps tokenizers from concurrent use.

    Args:
        embedder: Embeds new texts; None: the guard's default, loaded on first use.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self._embedder = embedder
        self._vectors: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text."""
        with self._lock:
            new = list(dict.fromkeys(text for text in texts if text not in self._vectors))
            if new:
                self._embedder = default_embedder() if self._embedder is None else self._embedder
                self._vectors.update(zip(new, self._embedder.embed_documents(new), strict=True))
            return [self._vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        return self.embed_documents([text])[0]


_embeddings = CachedEmbeddings()


def shared_embeddings() -> Embedder:
    """Return the process-wide default embedder."""
    return _embeddings


def resolve_model(model: BaseChatModel | str) -> BaseChatModel:
    """Return a chat model; one given by name is loaded once per process.

    Raises:
        ConfigurationError: The name is unknown.
    """
    if not isinstance(model, str):
        return model
    return _load(model)


@load_once
def _load(name: str) -> BaseChatModel:
    return load_model(name)
