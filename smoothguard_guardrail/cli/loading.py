"""Loading the model that a command names, without output from libraries."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from smoothguard_guardrail.models import load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.language_models import BaseChatModel

    from smoothguard_guardrail.evaluation.mappers import Mapper

_THREADS = 4  # items at once for a remote model; each makes num_samples calls
HELP = "`reference` (shipped), `hf:PATH` (a local folder or hub id) or `PROVIDER:NAME`, e.g. `openai:gpt-4o`."


def quiet_libraries() -> None:
    """Turn off the progress bars and warnings of libraries; call this before they are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def load_with_progress(name: str) -> BaseChatModel:
    """Load a model; while it loads, a terminal shows so on stderr."""
    from rich.console import Console

    with Console(stderr=True).status(f"Loading {name} ..."):
        return load_model(name)


@contextmanager
def mapper_for(model: BaseChatModel, workers: int | None) -> Iterator[Mapper | None]:
    """Yield where an evaluation's work runs: threads for a remote model, processes for a local one on the CPU.

    Args:
        model: The model.
        workers: How many; None: four threads, or one process per core.

    Yields:
        A mapper; None, this process, for a local model on an accelerator or with one worker.
    """
    from smoothguard_guardrail.evaluation.mappers import InProcesses, InThreads
    from smoothguard_guardrail.models import ChatTransformersMultimodal

    if not isinstance(model, ChatTransformersMultimodal):
        yield InThreads(workers or _THREADS)
        return
    count = workers or os.cpu_count() or 1
    if count == 1 or model.engine.device.type != "cpu":
        yield None
        return
    mapper = InProcesses(count)
    try:
        yield mapper
    finally:
        mapper.close()


def model_for(mapper: Mapper | None, name: str, model: BaseChatModel) -> BaseChatModel | str:
    """Return what a mapper's tasks take: the name of the model where other processes load it."""
    from smoothguard_guardrail.evaluation.mappers import InProcesses

    return name if isinstance(mapper, InProcesses) else model


__all__ = ["HELP", "load_model", "load_with_progress", "mapper_for", "model_for", "quiet_libraries"]
