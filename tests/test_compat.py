from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib.util, sys
if importlib.util.find_spec("torchvision") is None:
    raise SystemExit
from smoothguard_guardrail.compat import ensure_torchvision
ensure_torchvision()
ensure_torchvision()
import torch
from torchvision.transforms.v2 import functional
assert functional.resize(torch.zeros(1, 3, 8, 8), [4, 4]).shape == (1, 3, 4, 4)
"""


def test_torchvision_imports_in_a_fresh_interpreter() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_names_loads_no_torch() -> None:
    script = (
        "import sys, smoothguard_guardrail.models, smoothguard_guardrail.attacks; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
