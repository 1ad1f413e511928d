"""Settings for every test: no network, no model hub, and no failure because the machine is slow."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it when first imported, which a test may do before a command does
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Dozens of processes import torch and the like, which may have been installed without compiling them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each worker

from hypothesis import settings

sys.dont_write_bytecode = False

# How long one example takes says more about the machine than about the code.
settings.register_profile("project", deadline=None)
settings.load_profile("project")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from tests.browser import chromium

    with chromium() as browser:
        yield browser
