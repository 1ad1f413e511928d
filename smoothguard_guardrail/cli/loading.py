"""The names of models that commands take, and libraries that keep quiet."""

from __future__ import annotations

import os

from smoothguard_guardrail.models import load_model

HELP = "`reference` (shipped), `hf:PATH` (a local folder or hub id) or `PROVIDER:NAME`, e.g. `openai:gpt-4o`."


def quiet_libraries() -> None:
    """Keep the progress bars and advice of libraries off the terminal; call it before they are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


__all__ = ["HELP", "load_model", "quiet_libraries"]
