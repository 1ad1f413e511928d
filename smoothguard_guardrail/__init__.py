"""SmoothGuard: guards multimodal chat models in LangChain by voting over noisy copies of the request's media."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smoothguard_guardrail._internal.lazy import lazy_exports

if TYPE_CHECKING:
    from smoothguard_guardrail.config import MediaLimits, RemotePolicy, SmoothGuardConfig
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
    from smoothguard_guardrail.protocols import BenignScorer, Clusterer, Embedder, Perturber, Voter
    from smoothguard_guardrail.result import Cluster, GuardResult, Medium, Sample

__version__ = "0.1.0"

# Loaded on first use: a plain import must not cost its users torch.
_MODULES = {
    "AbstainedError": "errors",
    "AdapterError": "errors",
    "BenignScorer": "protocols",
    "Cluster": "result",
    "Clusterer": "protocols",
    "ConfigurationError": "errors",
    "Embedder": "protocols",
    "GuardResult": "result",
    "InputError": "errors",
    "MediaError": "errors",
    "MediaFetchError": "errors",
    "MediaLimitError": "errors",
    "MediaLimits": "config",
    "Medium": "result",
    "MissingDependencyError": "errors",
    "Perturber": "protocols",
    "QuorumError": "errors",
    "RemotePolicy": "config",
    "SafetyLogHandler": "observability.safety_log.handler",
    "Sample": "result",
    "SmoothGuardChatModel": "hosts.chat_model",
    "SmoothGuardConfig": "config",
    "SmoothGuardError": "errors",
    "SmoothGuardMiddleware": "hosts.middleware",
    "SmoothGuardRunnable": "hosts.runnable",
    "UnsupportedMediaError": "errors",
    "Voter": "protocols",
}

__all__ = [
    "AbstainedError",
    "AdapterError",
    "BenignScorer",
    "Cluster",
    "Clusterer",
    "ConfigurationError",
    "Embedder",
    "GuardResult",
    "InputError",
    "MediaError",
    "MediaFetchError",
    "MediaLimitError",
    "MediaLimits",
    "Medium",
    "MissingDependencyError",
    "Perturber",
    "QuorumError",
    "RemotePolicy",
    "SafetyLogHandler",
    "Sample",
    "SmoothGuardChatModel",
    "SmoothGuardConfig",
    "SmoothGuardError",
    "SmoothGuardMiddleware",
    "SmoothGuardRunnable",
    "UnsupportedMediaError",
    "Voter",
    "__version__",
]

__getattr__, __dir__ = lazy_exports(__name__, _MODULES)
