from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence, Timing
from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
from fletching.errors import (
    InvalidArgumentError,
    NoSuchTableError,
    OperationCancelledError,
    StorageError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import CreateProject, CreateTable, DescribeTable
from fletching.protocol.messages.requests import (
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    ReadTable,
    WriteTable,
)
from fletching.types import TableName

T = TableName("p", "t")
SCHEMA = pa.schema([("n", pa.int64())])
OPTIONS = CallOptions()


def attempt(cancellation: Cancellation | None = None) -> RetrySequence:
    return RetrySequence(OPTIONS, Timing(), cancellation=cancellation)


@pytest.fixture
def transport(tmp_path: Path) -> Iterator[EmbeddedTransport]:
    with EmbeddedTransport(tmp_path / "data", create=True) as made:
        made.call(CreateProject(project="p"), attempt())
        made.call(CreateTable(table=T, arrow_schema=encode_schema(SCHEMA)), attempt())
        yield made


def opened_write(transport: EmbeddedTransport) -> WriteTable:
    session: Any = transport.call(CreateWriteSession(table=T), attempt())
    transport.call(
        CreateWriteStream(table=T, session_id=session.session_id, stream_id="s"), attempt()
    )
    return WriteTable(table=T, session_id=session.session_id, stream_id="s")


def filled(transport: EmbeddedTransport) -> ReadTable:
    client = fletching.Client(_channel(transport), "p")
    table = client.table("t")
    with table.write_session() as session, session.writer() as writer:
        for start in range(0, 30, 10):
            writer.write(pa.record_batch({"n": range(start, start + 10)}))
    session_id: Any = transport.call(CreateReadSession(table=T), attempt())
    return ReadTable(table=T, session_id=session_id.session_id)


def _channel(transport: EmbeddedTransport) -> Any:
    from fletching.client.transports.channel import Channel

    return Channel(transport, OPTIONS, Timing(), None)


def test_nothing_is_made_by_opening(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        EmbeddedTransport(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_errors_are_those_of_a_service(transport: EmbeddedTransport) -> None:
    with pytest.raises(NoSuchTableError) as caught:
        transport.call(DescribeTable(table=TableName("p", "none")), attempt())
    assert caught.value.http_status == 404
    with pytest.raises(InvalidArgumentError):
        transport.call(
            CreateTable(table=TableName("p", "a b"), arrow_schema=encode_schema(SCHEMA)),
            attempt(),
        )


def test_batches_and_bytes_of_a_read_are_the_same(transport: EmbeddedTransport) -> None:
    request = filled(transport)
    source = transport.read(request, attempt())
    batches = list(source)
    assert [batch.num_rows for batch in batches] == [10, 10, 10]
    source.hurry()
    source.close()
    stream = transport.open_read(request, attempt())
    out = bytearray()
    room = bytearray(100)
    while count := stream.readinto(room):
        out += room[:count]
    assert stream.readinto(bytearray()) == 0
    stream.close()
    with pa.ipc.open_stream(bytes(out)) as reader:
        assert reader.read_all() == pa.Table.from_batches(batches)


def test_a_read_ends_at_the_next_batch_when_it_is_cancelled(transport: EmbeddedTransport) -> None:
    request = filled(transport)
    cancellation = Cancellation()
    batches = iter(transport.read(request, attempt(cancellation)))
    next(batches)
    cancellation.cancel()
    with pytest.raises(OperationCancelledError):
        next(batches)
    with pytest.raises(OperationCancelledError):
        transport.read(request, attempt(cancellation))


@pytest.mark.parametrize("fault", ["cut", "damaged", "abort"])
def test_a_body_that_is_not_whole_leaves_nothing(transport: EmbeddedTransport, fault: str) -> None:
    request = opened_write(transport)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(pa.record_batch({"n": range(1000)}))
    data = bytes(sink.getvalue())
    body = transport.open_write(request, attempt())
    if fault == "abort":
        body.write(data)
        body.abort()
        body.abort()
    else:
        with pytest.raises(fletching.FletchingError):  # noqa: PT012  # any of these writes may be it
            for start in range(0, len(data), 100):
                body.write(data[start : start + 100] if fault == "cut" else b"\xff" * 100)
                if fault == "cut" and start > 500:
                    body.finish()
    with pytest.raises(InvalidArgumentError, match="not a closed stream"):
        transport.call(
            CommitWriteSession(table=T, session_id=request.session_id, streams=(("s", 1),)),
            attempt(),
        )
    info: Any = transport.call(DescribeTable(table=T), attempt())
    assert info.rows == 0


def test_a_closed_transport_takes_no_calls(tmp_path: Path) -> None:
    transport = EmbeddedTransport(tmp_path / "data", create=True)
    transport.close()
    transport.close()
    with pytest.raises(OperationCancelledError, match="closed"):
        transport.call(CreateProject(project="p"), attempt())
