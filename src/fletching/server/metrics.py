"""What the service counts, in the form that Prometheus scrapes: ``GET /metrics``.

Every server has a registry of its own. Labels are few and bounded: an action that is not among the
first `MAX_ACTIONS` is ``_other``, and no table, key or path is ever a label. docs/reference/metrics.md
lists all names; a test holds it to that.
"""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fletching import __version__
from fletching.engine.engine import Engine
from fletching.errors import MethodNotAllowedError
from fletching.server.http.exchange import Exchange
from fletching.server.request_limits import Limiter, MemoryBudget
from fletching.server.workers import Workers

__all__ = ["METRICS_PATH", "Durations", "Metrics", "handle_metrics"]

METRICS_PATH = "/metrics"
MAX_ACTIONS = 64
OTHER = "_other"

# OpenTelemetry's bounds for the duration of HTTP requests, so that both agree.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Of transactions and of calls to the object store, which are parts of requests.
_PART_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)

DEBT_SECONDS = 60.0
"""How old what is said of upkeep's debt may be: finding it out reads the catalog."""


class Durations:
    """Durations by kind, as a histogram. Thread-safe."""

    def __init__(self, bounds: Sequence[float] = _PART_SECONDS) -> None:
        self.bounds = bounds
        self._kinds: dict[str, tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()

    def observe(self, kind: str, seconds: float) -> None:
        """Counts one; kinds are words of ours, so there are few."""
        index = bisect.bisect_left(self.bounds, seconds)
        with self._lock:
            counts, total = self._kinds.setdefault(kind, ([0] * (len(self.bounds) + 1), [0.0]))
            counts[index] += 1
            total[0] += seconds

    def add_to(self, family: HistogramMetricFamily) -> None:
        """Adds a series per kind."""
        with self._lock:
            kinds = {
                kind: (list(counts), total[0]) for kind, (counts, total) in self._kinds.items()
            }
        for kind, (counts, total) in sorted(kinds.items()):
            family.add_metric([kind], _buckets(self.bounds, counts), total)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, itertools.accumulate(counts), strict=True))


class _Action:
    """What is counted of an action's exchanges."""

    __slots__ = ("durations", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.durations = [0] * (len(_SECONDS) + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0


class MeasuredService(Protocol):
    """What is read of a service when it is scraped."""

    draining: bool
    bodies: Limiter
    reads: Limiter
    calls: Limiter
    memory: MemoryBudget
    workers: Workers
    engine: Engine


class Metrics:
    """Counts requests; used on the event loop alone, which is why it needs no lock per request.

    Attributes:
        registry: what a scrape asks.
        catalog, store: durations of transactions and of calls to the object store; thread-safe.
    """

    def __init__(self, service: MeasuredService) -> None:
        """Makes the registry; gauges are read from the service when they are asked for."""
        self.registry = CollectorRegistry()
        self.catalog = Durations()
        self.store = Durations()
        self.debt: dict[str, float] = {}
        self._debt_at = float("-inf")
        self._service = service
        self._requests: dict[tuple[str, str, int], int] = {}
        self._actions: dict[str, _Action] = {}
        self._broken = 0
        self._started = time.time()
        for families in (self.requests, self.state, self.parts):
            self.registry.register(_Families(families))
        ProcessCollector(registry=self.registry)

    def observe(self, exchange: Exchange) -> None:
        """Counts an exchange that has ended; about a microsecond."""
        action = exchange.action or "none"
        counted = self._actions.get(action)
        if counted is None:
            if len(self._actions) >= MAX_ACTIONS:
                action = OTHER
            counted = self._actions.setdefault(action, _Action())
        method = exchange.method if exchange.method in _METHODS else OTHER
        key = (action, method, exchange.status or 0)
        self._requests[key] = self._requests.get(key, 0) + 1
        seconds = exchange.seconds
        counted.durations[bisect.bisect_left(_SECONDS, seconds)] += 1
        counted.seconds += seconds
        counted.received += exchange.body.body_bytes
        counted.sent += exchange.sent_bytes
        if exchange.outcome == "disconnected":
            self._broken += 1

    def requests(self) -> Iterable[Metric]:
        """The families of what `observe` counts."""
        requests = CounterMetricFamily(
            "fletching_http_requests", "Requests answered.", labels=["action", "method", "code"]
        )
        for (action, method, status), count in sorted(self._requests.items()):
            requests.add_metric([action, method, str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "fletching_http_request_duration_seconds",
            "From the head of a request to the end of its reply.",
            labels=["action"],
        )
        received = CounterMetricFamily(
            "fletching_http_request_body_bytes", "Bytes of request bodies.", labels=["action"]
        )
        sent = CounterMetricFamily(
            "fletching_http_response_body_bytes", "Bytes of reply bodies.", labels=["action"]
        )
        for action, counted in sorted(self._actions.items()):
            seconds.add_metric([action], _buckets(_SECONDS, counted.durations), counted.seconds)
            received.add_metric([action], counted.received)
            sent.add_metric([action], counted.sent)
        yield from (seconds, received, sent)
        yield CounterMetricFamily(
            "fletching_http_broken_exchanges",
            "Exchanges whose client went away before the end.",
            self._broken,
        )

    def parts(self) -> Iterable[Metric]:
        """The families of what requests are made of: pools, catalog, object store, caches, upkeep."""
        service = self._service
        running = GaugeMetricFamily(
            "fletching_worker_calls_running", "Calls that run in threads.", labels=["pool"]
        )
        waiting = GaugeMetricFamily(
            "fletching_worker_calls_waiting", "Calls that wait for a thread.", labels=["pool"]
        )
        threads = GaugeMetricFamily(
            "fletching_worker_threads_limit", "Threads that a pool may have.", labels=["pool"]
        )
        for name, pool in service.workers.pools():
            running.add_metric([name], pool.running)
            waiting.add_metric([name], pool.waiting)
            threads.add_metric([name], pool.threads)
        yield from (running, waiting, threads)
        for name, help_, durations, label in (
            (
                "fletching_catalog_transaction_duration_seconds",
                "Transactions on the catalog, with the wait for their turn.",
                self.catalog,
                "kind",
            ),
            (
                "fletching_store_operation_duration_seconds",
                "Calls to the object store.",
                self.store,
                "operation",
            ),
        ):
            family = HistogramMetricFamily(name, help_, labels=[label])
            durations.add_to(family)
            yield family
        hits = CounterMetricFamily(
            "fletching_cache_hits", "Lookups that a cache answered.", labels=["cache"]
        )
        misses = CounterMetricFamily(
            "fletching_cache_misses", "Lookups that a cache could not answer.", labels=["cache"]
        )
        for name, cache in service.engine.caches():
            hits.add_metric([name], cache.hits)
            misses.add_metric([name], cache.misses)
        yield from (hits, misses)
        yield GaugeMetricFamily(
            "fletching_remembered_bytes",
            "Memory, estimated, of what is kept for the next reads and upserts.",
            service.engine.remembered_bytes(),
        )
        for key, name, help_ in _DEBT:
            if key in self.debt:
                yield GaugeMetricFamily(name, help_, self.debt[key])

    def state(self) -> Iterable[Metric]:
        """The families of what is so now."""
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
        limiters = (("upload", service.bodies), ("reply", service.reads), ("call", service.calls))
        for kind, limiter in limiters:
            open_.add_metric([kind], limiter.open)
            limit.add_metric([kind], limiter.limit)
            refused.add_metric([kind], limiter.refused)
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

    async def refresh_debt(self) -> None:
        """Looks at what compaction and retention have before them, if the last look is old."""
        if time.monotonic() - self._debt_at < DEBT_SECONDS:
            return
        self._debt_at = time.monotonic()
        service = self._service
        self.debt = await service.workers.io.run(service.engine.operations.debt)


_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}

_DEBT = (
    (
        "compaction_segments",
        "fletching_compaction_debt_segments",
        "Small segments that compaction may merge.",
    ),
    (
        "compaction_bytes",
        "fletching_compaction_debt_bytes",
        "Bytes of small segments that compaction may merge.",
    ),
    (
        "retention_segments",
        "fletching_retention_debt_segments",
        "Segments that were removed and are kept for older versions.",
    ),
    (
        "retention_bytes",
        "fletching_retention_debt_bytes",
        "Bytes of segments that were removed and are kept for older versions.",
    ),
)


class _Families(Collector):
    """What a function gives at each scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


async def handle_metrics(exchange: Exchange, metrics: Metrics) -> None:
    """Answers a scrape.

    Raises:
        MethodNotAllowedError: neither GET nor HEAD.
    """
    if exchange.verb != "GET":
        raise MethodNotAllowedError.of(exchange.path, exchange.method, ["GET"])
    exchange.action = "metrics"
    await metrics.refresh_debt()
    text = generate_latest(metrics.registry)
    await exchange.reply(text, content_type=CONTENT_TYPE_LATEST)
