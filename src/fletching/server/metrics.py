"""What the service counts, in the form that Prometheus scrapes: ``GET /metrics``.

Every server has a registry of its own. Labels are few and bounded: an action that is not among the
first `MAX_ACTIONS` is ``_other``, and no table, key or path is ever a label. docs/reference/metrics.md
lists all names; a test holds it to that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fletching import __version__
from fletching.errors import MethodNotAllowedError
from fletching.server.http.exchange import Exchange
from fletching.server.request_limits import Limiter, MemoryBudget

__all__ = ["METRICS_PATH", "Metrics", "handle_metrics"]

METRICS_PATH = "/metrics"
MAX_ACTIONS = 64
OTHER = "_other"

# OpenTelemetry's bounds for the duration of HTTP requests, so that both agree.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class MeasuredService(Protocol):
    """What is read of a service when it is scraped."""

    draining: bool
    bodies: Limiter
    reads: Limiter
    calls: Limiter
    memory: MemoryBudget


class Metrics:
    """Counts requests; used on the event loop alone."""

    def __init__(self, service: MeasuredService) -> None:
        """Makes the registry; gauges are read from the service when they are asked for."""
        self.registry = CollectorRegistry()
        self._actions: set[str] = set()
        self._requests = Counter(
            "fletching_http_requests",
            "Requests answered.",
            ["action", "method", "code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "fletching_http_request_duration_seconds",
            "From the head of a request to the end of its reply.",
            ["action"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._received = Counter(
            "fletching_http_request_body_bytes",
            "Bytes of request bodies.",
            ["action"],
            registry=self.registry,
        )
        self._sent = Counter(
            "fletching_http_response_body_bytes",
            "Bytes of reply bodies.",
            ["action"],
            registry=self.registry,
        )
        self._broken = Counter(
            "fletching_http_broken_exchanges",
            "Exchanges whose client went away before the end.",
            registry=self.registry,
        )
        self.registry.register(_State(service))
        ProcessCollector(registry=self.registry)

    def observe(self, exchange: Exchange) -> None:
        """Counts an exchange that has ended."""
        action = self._label(exchange.action or "none")
        method = exchange.method if exchange.method in _METHODS else OTHER
        self._requests.labels(action, method, str(exchange.status or 0)).inc()
        self._seconds.labels(action).observe(exchange.seconds)
        self._received.labels(action).inc(exchange.body.body_bytes)
        self._sent.labels(action).inc(exchange.sent_bytes)
        if exchange.outcome == "disconnected":
            self._broken.inc()

    def _label(self, action: str) -> str:
        if action in self._actions:
            return action
        if len(self._actions) >= MAX_ACTIONS:
            return OTHER
        self._actions.add(action)
        return action


_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}


class _State(Collector):
    """What is so now: read from the service when it is asked for."""

    def __init__(self, service: MeasuredService) -> None:
        self._service = service
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        service = self._service
        yield InfoMetricFamily("fletching_build", "The release.", {"version": __version__})
        yield GaugeMetricFamily(
            "fletching_start_time_seconds", "When the service began.", self._started
        )
        yield GaugeMetricFamily(
            "fletching_draining", "1 while the service is stopping.", float(service.draining)
        )
        open_ = GaugeMetricFamily(
            "fletching_http_requests_in_flight", "Requests that run now.", labels=["kind"]
        )
        limit = GaugeMetricFamily(
            "fletching_http_requests_limit", "How many may run at once.", labels=["kind"]
        )
        refused = CounterMetricFamily(
            "fletching_http_requests_refused", "Turned away at that limit.", labels=["kind"]
        )
        gates = (("upload", service.bodies), ("reply", service.reads), ("call", service.calls))
        for kind, gate in gates:
            open_.add_metric([kind], gate.open)
            limit.add_metric([kind], gate.limit)
            refused.add_metric([kind], gate.refused)
        yield from (open_, limit, refused)
        yield GaugeMetricFamily(
            "fletching_ingest_memory_bytes", "Held by uploads now.", service.memory.held
        )
        yield GaugeMetricFamily(
            "fletching_ingest_memory_peak_bytes", "The most that uploads held.", service.memory.peak
        )
        yield GaugeMetricFamily(
            "fletching_ingest_memory_limit_bytes", "What they may hold.", service.memory.limit
        )


async def handle_metrics(exchange: Exchange, metrics: Metrics) -> None:
    """Answers a scrape.

    Raises:
        MethodNotAllowedError: neither GET nor HEAD.
    """
    if exchange.method not in {"GET", "HEAD"}:
        raise MethodNotAllowedError(f"{exchange.path} takes GET or HEAD, not {exchange.method}")
    exchange.action = "metrics"
    text = generate_latest(metrics.registry)
    await exchange.reply(text, content_type=CONTENT_TYPE_LATEST)
