"""Who does not trace pays nothing; who does tells the service of the trace. The whole is in test_tracing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fletching.client.transports.http.client_spans import client_span


def test_a_program_without_tracing_imports_nothing_for_it() -> None:
    code = (
        "import sys; from fletching.client.transports.http.client_spans import client_span\n"
        "with client_span('a', 'GET', 'h', 0) as span: assert span is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_headers_carry_the_trace_of_the_program() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=trace.TraceFlags(1))
    with (
        trace.use_span(trace.NonRecordingSpan(context)),
        client_span("TableRead", "POST", "http://h", 1) as span,
    ):
        assert span is not None
        version, trace_id, _, _ = span.headers()["traceparent"].split("-")
        span.answered(200, None)
    assert (version, int(trace_id, 16)) == ("00", 0xA1)
