"""Loading the model that a command names, without output from libraries."""

from __future__ import annotations

import os

from smoothguard_guardrail.models import load_model

HELP = "`reference` (shipped), `hf:PATH` (a local folder or hub id) or `PROVIDER:NAME`, e.g. `openai:gpt-4o`."


def quiet_libraries() -> None:
    """Turn off the progress bars and warnings of libraries; call this before they are imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


__all__ = ["HELP", "load_model", "quiet_libraries"]
