"""Prometheus metrics of one server (extra `serve`)."""

from __future__ import annotations

from collections.abc import Iterable

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line
from smoothguard_guardrail.observability.safety_log.summary import verdict_of

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
except ImportError as _error:
    raise MissingDependencyError("prometheus-client", "serve") from _error

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENT_KEY = "client"
"""Key of a guarded call's metadata, and so of the safety log's, under which a server names the client."""
DEFAULT_CLIENT = "default"
"""The client of keys without a name, and of all calls where no key is required."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


class Metrics:
    """The metrics of one server, in their own registry, so that one process can run several servers.

    Args:
        clients: Names of the clients that have figures of their own; all others together are `default`.
    """

    def __init__(self, *, clients: Iterable[str] = ()) -> None:
        self._registry = CollectorRegistry()
        self._clients = frozenset(clients)
        self.requests: Counter = Counter(
            "smoothguard_http_requests", "HTTP requests.", ["route", "status"], registry=self._registry
        )
        self.seconds: Histogram = Histogram(
            "smoothguard_http_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight: Gauge = Gauge(
            "smoothguard_requests_in_flight", "Requests to models that are being answered.", registry=self._registry
        )
        self.verdicts: Counter = Counter("smoothguard_verdicts", "Guarded calls.", ["verdict"], registry=self._registry)
        self.actions: Counter = Counter(
            "smoothguard_actions", "Guarded calls by what the caller got.", ["action"], registry=self._registry
        )
        self.overruled: Counter = Counter(
            "smoothguard_clean_overruled", "Calls whose clean copy lost the vote.", registry=self._registry
        )
        self.agreement: Histogram = Histogram(
            "smoothguard_agreement",
            "Share of the answers in the winning cluster, of requests with media.",
            buckets=_SHARES,
            registry=self._registry,
        )
        self.suspicion: Histogram = Histogram(
            "smoothguard_suspicion",
            "How much the clean copy's answer differs from the others', of requests with a clean copy.",
            buckets=_SHARES,
            registry=self._registry,
        )
        self.model_calls: Counter = Counter("smoothguard_model_calls", "Model calls.", registry=self._registry)
        self.failures: Counter = Counter(
            "smoothguard_failures", "Guarded calls without a verdict.", ["error"], registry=self._registry
        )
        self.client_calls: Counter = Counter(
            "smoothguard_client_calls", "Guarded calls of each client.", ["client", "verdict"], registry=self._registry
        )
        self.client_tokens: Counter = Counter(
            "smoothguard_client_tokens", "Tokens of each client.", ["client", "direction"], registry=self._registry
        )
        for verdict in ("passed", "abstained", "skipped"):
            self.verdicts.labels(verdict)
        for action in ("answered", "refused", "skipped"):
            self.actions.labels(action)

    def client_of(self, line: Line) -> str:
        """Return the client whose figures a call counts for."""
        name = line.metadata.get(CLIENT_KEY)
        return name if name in self._clients else DEFAULT_CLIENT

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class PrometheusHandler(GuardObserver):
    """Counts guarded calls, with any host.

    Args:
        metrics: The metrics of one server.
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def observe(self, line: Line) -> None:
        """Count one guarded call."""
        metrics = self._metrics
        metrics.model_calls.inc(line.num_calls or 0)
        client = metrics.client_of(line)
        metrics.client_calls.labels(client, verdict_of(line)).inc()
        if isinstance(line, FailureLine):
            metrics.failures.labels(line.error).inc()
            return
        metrics.verdicts.labels(line.verdict).inc()
        metrics.actions.labels(line.action).inc()
        if line.usage is not None:
            metrics.client_tokens.labels(client, "input").inc(line.usage["input_tokens"])
            metrics.client_tokens.labels(client, "output").inc(line.usage["output_tokens"])
        if line.verdict != "skipped":
            metrics.agreement.observe(line.agreement)
        if line.suspicion is not None:
            metrics.suspicion.observe(line.suspicion)
        if line.clean_overruled:
            metrics.overruled.inc()
