"""Makes torchvision's Python part importable beside a torch build that its compiled operators do not fit."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_lock = threading.Lock()
_libraries: list[Any] = []  # a torch Library withdraws its operators when it is collected


def ensure_torchvision() -> None:
    """Make `import torchvision` work where only its compiled operators fail to load.

    PyPI's torchvision beside a CPU-only torch raises "operator torchvision::nms does not exist", and
    transformers, which sees the package installed, then cannot build a processor. Declaring the two operators
    that the import asks for is enough for the transforms. Does nothing where torchvision imports, or is
    absent.

    Raises:
        RuntimeError: torchvision fails for another reason than its missing operators.

    Example:
        >>> ensure_torchvision()
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    with _lock:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_operators()
            importlib.import_module("torchvision")


def _declare_operators() -> None:
    from torch.library import Library

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # left behind, half initialised, by the import that failed
    library: Any = Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)
    _libraries.append(library)
