from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.retry import RetrySequence
from fletching.client.transports.channel import Channel
from fletching.client.writing.arrow_writer import ArrowWriter
from fletching.errors import (
    ConnectionBrokenError,
    InvalidArgumentError,
    PayloadTooLargeError,
    UsageError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.requests import (
    CloseWriteStream,
    CreateWriteStream,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import (
    Done,
    Response,
    TableSchema,
    WriteResult,
    WriteStream,
)
from fletching.types import TableName

TABLE = TableName("p", "t")
SCHEMA = pa.schema([("n", pa.int64())])


def numbers(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(start, end), pa.int64())], schema=SCHEMA)


class Service:
    """One write stream that keeps what it accepts, knows repeated trace ids, and has a size limit."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.traces: set[str] = set()
        self.failures: list[Exception] = []
        self.most_rows = 10**9
        self.bodies: list[int] = []
        self.log: list[str] = []

    def call(self, request: Request, attempt: RetrySequence) -> Response:
        self.log.append(type(request).__name__)
        if isinstance(request, CloseWriteStream):
            return Done()
        assert isinstance(request, CreateWriteStream)
        return WriteStream(
            table_id="id-1",
            schema_version=3,
            latest_schema_version=3,
            schema=TableSchema(),
            arrow_schema=encode_schema(SCHEMA),
        )

    def write(
        self, request: WriteTable, batches: Sequence[Any], attempt: RetrySequence
    ) -> WriteResult:
        values = [value for batch in batches for value in batch.column(0).to_pylist()]
        assert request.count == len(values)
        assert (request.table_id, request.schema_version) == ("id-1", 3)
        if len(values) > self.most_rows:
            raise PayloadTooLargeError("too large")
        if attempt.trace_id not in self.traces:
            self.traces.add(attempt.trace_id)
            self.rows += values
            self.bodies.append(len(values))
        if self.failures:
            raise self.failures.pop(0)
        return WriteResult(rows=len(values))


@pytest.fixture
def service(transport: Any) -> Service:
    made = Service()
    transport.on_call, transport.on_write = made.call, made.write
    return made


def writer_of(channel: Channel, **options: Any) -> ArrowWriter:
    return ArrowWriter(channel.changed(**options), TABLE, "ws-1", "s", 1)


def test_rows_are_sent_in_bodies_and_the_stream_closed(channel: Any, service: Service) -> None:
    # Of fewer rows a batch's own bytes and those of the whole that it is cut from are not told apart.
    with writer_of(channel, write_body_bytes=8000) as writer:
        assert writer.write([numbers(0, 400), numbers(400, 800), numbers(800, 2500)]) == 2500
        assert writer.rows < 2500
        writer.flush()
        assert writer.rows == 2500
    assert service.rows == list(range(2500))
    assert max(service.bodies) <= 1000
    assert service.log == ["CreateWriteStream", "CloseWriteStream"]
    assert writer.closed
    writer.close()
    with pytest.raises(UsageError, match="is closed"):
        writer.write(numbers(0, 1))


def test_a_lost_answer_does_not_double_rows(channel: Any, service: Service) -> None:
    service.failures = [ConnectionBrokenError("x")] * 3
    with writer_of(channel) as writer:
        writer.write(numbers(0, 5))
    assert service.rows == list(range(5))


def test_a_body_above_the_services_limit_is_sent_in_halves(channel: Any, service: Service) -> None:
    service.most_rows = 7
    with writer_of(channel) as writer:
        writer.write([numbers(0, 30), numbers(30, 31), numbers(31, 50)])
    assert service.rows == list(range(50))
    assert max(service.bodies) <= 7


def test_a_row_above_the_services_limit_is_an_error(channel: Any, service: Service) -> None:
    service.most_rows = 0
    writer = writer_of(channel)
    writer.write(numbers(0, 3))
    with pytest.raises(PayloadTooLargeError):
        writer.close()
    assert writer.failed
    assert service.rows == []


def test_a_refused_body_ends_the_writer(channel: Any, service: Service) -> None:
    service.failures = [InvalidArgumentError("x")]
    writer = writer_of(channel)
    writer.write(numbers(0, 3))
    with pytest.raises(InvalidArgumentError):
        writer.flush()
    assert writer.failed
    with pytest.raises(UsageError, match="was given up"):
        writer.write(numbers(3, 4))
    assert service.log == ["CreateWriteStream"]


def test_a_block_that_raises_closes_nothing(channel: Any, service: Service) -> None:
    writer = writer_of(channel)

    def fail() -> None:
        with writer:
            writer.write(numbers(0, 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert writer.failed
    assert not writer.closed
    assert service.rows == []


def test_data_that_does_not_fit_sends_nothing_and_ends_nothing(
    channel: Any, service: Service
) -> None:
    with writer_of(channel) as writer:
        with pytest.raises(UsageError, match="no column 'x'"):
            writer.write({"x": [1]})
        writer.write({"N": [1]})
    assert service.rows == [1]
