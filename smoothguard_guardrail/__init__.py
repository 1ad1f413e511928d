"""SmoothGuard: guards multimodal chat models in LangChain by voting over noisy copies of the request's media."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smoothguard_guardrail._internal.lazy import lazy_exports

if TYPE_CHECKING:
    from smoothguard_guardrail.config import (
        AudioConfig,
        ImageConfig,
        MediaConfig,
        MediaLimits,
        PdfConfig,
        RemotePolicy,
        SmoothGuardConfig,
        VideoConfig,
        VoteConfig,
    )
    from smoothguard_guardrail.core.components import GuardComponents
    from smoothguard_guardrail.errors import (
        AbstainedError,
        AdapterError,
        ConfigurationError,
        InputError,
        MediaError,
        MediaFetchError,
        MediaLimitError,
        MissingDependencyError,
        QuorumError,
        SmoothGuardError,
        UnsupportedMediaError,
    )
    from smoothguard_guardrail.hosts.chat_model import SmoothGuardChatModel
    from smoothguard_guardrail.hosts.middleware import SmoothGuardMiddleware
    from smoothguard_guardrail.hosts.runnable import SmoothGuardRunnable
    from smoothguard_guardrail.observability.safety_log.handler import SafetyLogHandler
    from smoothguard_guardrail.protocols import Clusterer, Embedder, Perturber, Scorer, Voter
    from smoothguard_guardrail.result import Cluster, GuardRecord, GuardResult, Medium, Sample, VotePolicy

__version__ = "0.1.0"

# Loaded on first use: a plain import must not cost its users torch.
_MODULES = {
    "config": (
        "AudioConfig",
        "ImageConfig",
        "MediaConfig",
        "MediaLimits",
        "PdfConfig",
        "RemotePolicy",
        "SmoothGuardConfig",
        "VideoConfig",
        "VoteConfig",
    ),
    "core.components": ("GuardComponents",),
    "errors": (
        "AbstainedError",
        "AdapterError",
        "ConfigurationError",
        "InputError",
        "MediaError",
        "MediaFetchError",
        "MediaLimitError",
        "MissingDependencyError",
        "QuorumError",
        "SmoothGuardError",
        "UnsupportedMediaError",
    ),
    "hosts.chat_model": ("SmoothGuardChatModel",),
    "hosts.middleware": ("SmoothGuardMiddleware",),
    "hosts.runnable": ("SmoothGuardRunnable",),
    "observability.safety_log.handler": ("SafetyLogHandler",),
    "protocols": ("Clusterer", "Embedder", "Perturber", "Scorer", "Voter"),
    "result": ("Cluster", "GuardRecord", "GuardResult", "Medium", "Sample", "VotePolicy"),
}

__all__ = [
    "AbstainedError",
    "AdapterError",
    "AudioConfig",
    "Cluster",
    "Clusterer",
    "ConfigurationError",
    "Embedder",
    "GuardComponents",
    "GuardRecord",
    "GuardResult",
    "ImageConfig",
    "InputError",
    "MediaConfig",
    "MediaError",
    "MediaFetchError",
    "MediaLimitError",
    "MediaLimits",
    "Medium",
    "MissingDependencyError",
    "PdfConfig",
    "Perturber",
    "QuorumError",
    "RemotePolicy",
    "SafetyLogHandler",
    "Sample",
    "Scorer",
    "SmoothGuardChatModel",
    "SmoothGuardConfig",
    "SmoothGuardError",
    "SmoothGuardMiddleware",
    "SmoothGuardRunnable",
    "UnsupportedMediaError",
    "VideoConfig",
    "VoteConfig",
    "VotePolicy",
    "Voter",
    "__version__",
]

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
