"""Spans of a request: the client's, the server's under it, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import fletching
from fletching.server.tracing import Tracing

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

EXPORTER = export.InMemorySpanExporter()


@pytest.fixture(scope="module")
def provider() -> Any:
    """A process has one provider: it is set once, and exports into memory."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    made = sdk.TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: Any) -> Iterator[Any]:
    EXPORTER.clear()
    yield EXPORTER
    EXPORTER.clear()


def test_a_call_is_one_trace_from_the_program_to_the_catalog(spans: Any, tmp_path: Any) -> None:
    with fletching.serve(tmp_path / "data", port=0, tracing=True) as server:
        access_id, secret = server.access_key
        with (
            fletching.connect(server.url, access_id=access_id, access_key=secret) as client,
            trace.get_tracer("test").start_as_current_span("the program"),
        ):
            client.create_table("t", "id BIGINT").append({"id": [1, 2]})
            with pytest.raises(fletching.FletchingError):
                client.table("nowhere")
    result = spans.get_finished_spans()
    by_id = {span.context.span_id: span for span in result}
    assert len({span.context.trace_id for span in result}) == 1
    servers = [span for span in result if span.kind is trace.SpanKind.SERVER]
    made = next(span for span in servers if span.name == "POST CreateTable")
    assert made.attributes["enduser.id"] == access_id
    assert made.attributes["http.response.status_code"] in {200, 201}
    asked = by_id[made.parent.span_id]
    assert (asked.kind, asked.name) == (trace.SpanKind.CLIENT, "POST tables")
    assert asked.attributes["fletching.request_id"] == made.attributes["fletching.request_id"]
    assert by_id[asked.parent.span_id].name == "the program"
    parts = [span for span in result if span.parent and span.parent.span_id == made.context.span_id]
    assert "catalog write" in {span.name for span in parts}
    assert all(made.start_time <= span.start_time <= span.end_time for span in parts)
    failed = next(span for span in servers if span.attributes.get("error.type"))
    assert failed.attributes["error.type"] == "NoSuchTableError"
    text = str([dict(span.attributes) for span in result])
    assert secret not in text
    assert "Signature" not in text


def test_without_the_setting_the_service_makes_no_spans(spans: Any, tmp_path: Any) -> None:
    with fletching.serve(tmp_path / "data", port=0) as server:
        access_id, secret = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
            client.create_table("t", "id BIGINT")
    kinds = {span.kind for span in spans.get_finished_spans()}
    assert kinds <= {trace.SpanKind.CLIENT}


def test_parts_outside_of_a_request_are_none_of_its_business(spans: Any) -> None:
    Tracing().part("catalog", "read", 0.1)
    assert spans.get_finished_spans() == ()
