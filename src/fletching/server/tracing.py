"""Spans of requests for OpenTelemetry, where the setting ``tracing`` asks for them (extra ``[otel]``).

A request continues the trace that its ``traceparent`` header names (W3C Trace Context). Its span has a
child for each transaction on the catalog and each call to the object store that was made for it. The
spans go wherever the process's tracer provider sends them; ``provide`` makes one that exports with OTLP,
as the environment's ``OTEL_*`` variables say, where nothing else did.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fletching import __version__, caller
from fletching.errors import MissingExtraError
from fletching.server.http.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["Tracing", "provide"]

_INSTALL = "tracing needs OpenTelemetry: pip install 'fletching[otel]'"


class Tracing:
    """Makes spans. Thread-safe."""

    def __init__(self) -> None:
        """Takes the process's tracer.

        Raises:
            MissingExtraError: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import propagate, trace
        except ModuleNotFoundError as error:
            raise MissingExtraError(_INSTALL) from error
        self._trace, self._propagate = trace, propagate
        self._tracer = trace.get_tracer("fletching.server", __version__)

    @contextlib.contextmanager
    def request(self, exchange: Exchange) -> Iterator[None]:
        """The span of a request, from its head to the end of its reply."""
        trace = self._trace
        parent = self._propagate.extract(exchange.headers)
        with self._tracer.start_as_current_span(
            exchange.method,
            context=parent,
            kind=trace.SpanKind.SERVER,
            # No query: it may hold a signature.
            attributes={
                "http.request.method": exchange.method,
                "url.path": exchange.path[:200],
                "url.scheme": "http",
                "fletching.request_id": exchange.request_id,
            },
        ) as span:
            context = span.get_span_context()
            if context.is_valid:
                caller.begin_request(exchange.request_id, f"{context.trace_id:032x}")
            try:
                yield
            finally:
                span.update_name(f"{exchange.method} {exchange.action or 'none'}")
                span.set_attribute("fletching.action", exchange.action)
                span.set_attribute("http.response.status_code", exchange.status or 0)
                span.set_attribute("http.request.body.size", exchange.body.body_bytes)
                span.set_attribute("http.response.body.size", exchange.sent_bytes)
                if exchange.access_id:
                    span.set_attribute("enduser.id", exchange.access_id)
                if exchange.outcome != "ok":
                    span.set_attribute("error.type", exchange.outcome)
                    if exchange.status is None or exchange.status >= 500:
                        span.set_status(trace.StatusCode.ERROR, exchange.outcome)

    def part(self, name: str, kind: str, seconds: float) -> None:
        """Notes a part of the current request that has just ended; nothing outside of one."""
        current: Span = self._trace.get_current_span()
        if not current.is_recording():
            return
        now = time.time_ns()
        span = self._tracer.start_span(
            f"{name} {kind}",
            kind=self._trace.SpanKind.CLIENT,
            start_time=now - int(seconds * 1e9),
        )
        span.end(now)


def provide() -> None:
    """Exports spans with OTLP, as the environment says, unless a tracer provider is set already.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtraError(_INSTALL) from error
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    provider = TracerProvider(
        resource=Resource.create({"service.name": "fletching", "service.version": __version__})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
