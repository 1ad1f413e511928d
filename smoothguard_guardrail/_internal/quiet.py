"""Keeps other libraries' progress bars off stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def without_bars_for_local(path_or_id: str) -> Iterator[None]:
    """Hide the progress bars of Transformers while a folder is loaded; those of a download stay."""
    from transformers.utils import logging

    is_hidden = Path(path_or_id).is_dir() and logging.is_progress_bar_enabled()
    if is_hidden:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if is_hidden:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
