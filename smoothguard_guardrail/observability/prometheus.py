"""Prometheus metrics of one server (extra `serve`).

`deploy/grafana-dashboard.json` and `deploy/alerts.yaml` use them; a test compares the names.
"""

from __future__ import annotations

from collections.abc import Iterable

from smoothguard_guardrail.errors import MissingDependencyError
from smoothguard_guardrail.observability.safety_log.filters import CLIENT_KEY, VERDICTS, verdict_of
from smoothguard_guardrail.observability.safety_log.handler import GuardObserver
from smoothguard_guardrail.observability.safety_log.lines import FailureLine, Line, VerdictLine

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
except ImportError as _error:
    raise MissingDependencyError("prometheus-client", "serve") from _error

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_CLIENT = "default"
"""The client of keys without a name, and of all calls where no key is required."""
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_STAGE_SECONDS = (0.001, 0.005, 0.01, *_SECONDS)
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)


class Metrics:
    """The metrics of one server, in their own registry, so that one process can run several servers.

    Args:
        clients: Names of the clients that have figures of their own; all others together are `default`.
    """

    def __init__(self, *, clients: Iterable[str] = ()) -> None:
        self._registry = CollectorRegistry()
        self._clients = frozenset(clients)
        ProcessCollector(registry=self._registry)
        self.requests: Counter = self._counter("http_requests", "HTTP requests.", "route", "status")
        self.seconds: Histogram = self._histogram(
            "http_request_seconds", "Seconds from a request's arrival to the end of its answer.", _SECONDS, "route"
        )
        self.in_flight: Gauge = self._gauge("requests_in_flight", "Requests to models that are being answered.")
        self.verdicts: Counter = self._counter(
            "verdicts", "Guarded calls; failed: the guard could not decide.", "verdict"
        )
        self.actions: Counter = self._counter("actions", "Guarded calls by what the caller got.", "action")
        self.suspicious: Counter = self._counter("suspicious", "Calls above vote.suspicion_threshold.")
        self.overruled: Counter = self._counter("clean_overruled", "Calls whose clean copy lost the vote.")
        self.failures: Counter = self._counter("failures", "Guarded calls without a verdict.", "error")
        self.agreement: Histogram = self._histogram(
            "agreement", "Share of the answers in the winning cluster, of requests with media.", _SHARES
        )
        self.suspicion: Histogram = self._histogram(
            "suspicion",
            "How much the clean copy's answer differs from the others', of requests with a clean copy.",
            _SHARES,
        )
        self.stage_seconds: Histogram = self._histogram(
            "guard_seconds", "Seconds of a guarded call by stage, and total.", _STAGE_SECONDS, "stage"
        )
        self.model_calls: Counter = self._counter("model_calls", "Model calls.")
        self.model_call_failures: Counter = self._counter("model_call_failures", "Model calls that failed.", "error")
        self.media: Counter = self._counter("media", "Media by what was done to them.", "kind", "action")
        self.settings: Gauge = self._gauge(
            "settings_info", "1 for every version and settings that answered a call.", "version", "settings_hash"
        )
        self.client_calls: Counter = self._counter("client_calls", "Guarded calls of each client.", "client", "verdict")
        self.client_tokens: Counter = self._counter("client_tokens", "Tokens of each client.", "client", "direction")
        # Rates need the zero before the first event.
        for verdict in VERDICTS:
            self.verdicts.labels(verdict)
            for client in (DEFAULT_CLIENT, *self._clients):
                self.client_calls.labels(client, verdict)
        for action in ("answered", "refused", "skipped"):
            self.actions.labels(action)
        for direction in ("input", "output"):
            self.client_tokens.labels(DEFAULT_CLIENT, direction)

    def client_of(self, line: Line) -> str:
        """Return the client whose figures a call counts for."""
        name = line.metadata.get(CLIENT_KEY)
        return name if name in self._clients else DEFAULT_CLIENT

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"smoothguard_{name}", about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"smoothguard_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"smoothguard_{name}", about, labels, buckets=buckets, registry=self._registry)


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
        metrics.settings.labels(line.version, line.settings_hash or "").set(1)
        metrics.verdicts.labels(verdict_of(line)).inc()
        metrics.model_calls.inc(line.num_calls or 0)
        metrics.client_calls.labels(metrics.client_of(line), verdict_of(line)).inc()
        for error in line.failures:
            metrics.model_call_failures.labels(error).inc()
        for stage, seconds in line.timings.items():
            metrics.stage_seconds.labels(stage).observe(seconds)
        if isinstance(line, FailureLine):
            metrics.failures.labels(line.error).inc()
        else:
            self._count_vote(line)

    def _count_vote(self, line: VerdictLine) -> None:
        metrics = self._metrics
        metrics.actions.labels(line.action).inc()
        for medium in line.media:
            metrics.media.labels(medium.kind, medium.action).inc()
        if line.usage:
            client = metrics.client_of(line)
            metrics.client_tokens.labels(client, "input").inc(line.usage.get("input_tokens", 0))
            metrics.client_tokens.labels(client, "output").inc(line.usage.get("output_tokens", 0))
        if line.verdict != "skipped":
            metrics.agreement.observe(line.agreement)
        if line.suspicion is not None:
            metrics.suspicion.observe(line.suspicion)
        metrics.suspicious.inc(bool(line.suspicious))
        metrics.overruled.inc(bool(line.clean_overruled))
