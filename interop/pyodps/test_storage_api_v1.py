"""``odps.apis.storage_api``, the first version, which is all that 0.12.5.1 has and later ones keep."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from data import DECLARATION, SCHEMA, rows
from odps import ODPS, errors
from odps.apis.storage_api import (
    Compression,
    DataFormat,
    ReadRowsRequest,
    SessionRequest,
    SessionStatus,
    SplitOptions,
    Status,
    StorageApiArrowClient,
    TableBatchScanRequest,
    TableBatchWriteRequest,
    WriteRowsRequest,
)

MODES = SplitOptions.SplitMode


@pytest.fixture
def client(o: ODPS, name: str) -> Any:
    return StorageApiArrowClient(o, o.create_table(name, (DECLARATION, "pt string")))


def write(client: Any, blocks: list[Any], compression: Any, **more: Any) -> None:
    session = client.create_write_session(TableBatchWriteRequest(**more))
    assert session.status == Status.OK
    assert session.session_status == SessionStatus.NORMAL
    messages = []
    for number, batch in enumerate(blocks):
        request = WriteRowsRequest(session.session_id, block_number=number, compression=compression)
        writer = client.write_rows_arrow(request)
        assert writer.write(batch)
        message, done = writer.finish()
        assert done
        assert writer.get_request_id()
        messages.append(message)
    look = client.get_write_session(SessionRequest(session.session_id))
    assert look.session_status == SessionStatus.NORMAL
    committed = client.commit_write_session(SessionRequest(session.session_id), messages)
    assert committed.status == Status.OK
    assert committed.session_status == SessionStatus.COMMITTED


def read(client: Any, request: ReadRowsRequest) -> pa.Table:
    reader = client.read_rows_arrow(request)
    batches = []
    while (batch := reader.read()) is not None:
        batches.append(batch)
    assert reader.get_status() == Status.OK
    assert reader.get_request_id()
    return pa.Table.from_batches(batches)


@pytest.mark.parametrize("compression", list(Compression))
def test_rows_of_every_type(client: Any, compression: Compression) -> None:
    blocks = [rows(500), rows(500, 500)]
    write(client, blocks, compression, partition_spec="pt=1", overwrite=False)
    session = client.create_read_session(TableBatchScanRequest(required_partitions=["pt=1"]))
    assert session.status == Status.OK
    assert (session.split_count, session.record_count) == (1, 1000)
    names = [column.name for column in session.data_schema.data_columns]
    assert names == SCHEMA.names
    result = read(client, ReadRowsRequest(session.session_id, compression=compression))
    assert result.select(SCHEMA.names).to_pylist() == pa.Table.from_batches(blocks).to_pylist()
    assert set(result["pt"].to_pylist()) == {"1"}
    again = client.get_read_session(SessionRequest(session.session_id, refresh=True))
    assert again.session_status == SessionStatus.NORMAL


def test_splits_and_filters(client: Any) -> None:
    write(client, [rows(1000)], Compression.UNCOMPRESSED, partition_spec="pt=1")
    session = client.create_read_session(
        TableBatchScanRequest(split_options=SplitOptions.get_default_options(MODES.ROW_OFFSET))
    )
    request = ReadRowsRequest(session.session_id, row_index=100, row_count=50, max_batch_rows=20)
    assert read(client, request).num_rows == 50
    session = client.create_read_session(
        TableBatchScanRequest(split_options=SplitOptions.get_default_options(MODES.PARALLELISM))
    )
    requests = [
        ReadRowsRequest(session.session_id, split_index=number)
        for number in range(session.split_count)
    ]
    assert sum(read(client, request).num_rows for request in requests) == 1000
    session = client.create_read_session(
        TableBatchScanRequest(required_data_columns=["e"], filter_predicate="a < 5")
    )
    result = read(client, ReadRowsRequest(session.session_id))
    assert (result.num_rows, result.schema.names) == (5, ["e"])


def test_overwriting_with_dynamic_partitions(client: Any) -> None:
    write(client, [rows(10)], Compression.ZSTD, partition_spec="pt=1", overwrite=False)
    batch = rows(6).append_column("pt", pa.array(["1", "2"] * 3))
    write(client, [batch], Compression.LZ4_FRAME, overwrite=True)
    for partition in ("pt=1", "pt=2"):
        session = client.create_read_session(TableBatchScanRequest(required_partitions=[partition]))
        assert session.record_count == 3


def test_a_stream_of_messages_written_by_hand(client: Any) -> None:
    for mark in (b"", b"\xff\xff\xff\xff\x00\x00\x00\x00"):
        session = client.create_write_session(TableBatchWriteRequest(partition_spec="pt=1"))
        writer = client.write_rows_stream(WriteRowsRequest(session.session_id))
        assert writer.write(rows(5).schema.serialize().to_pybytes())
        for _ in range(3):
            assert writer.write(rows(5).serialize().to_pybytes())
        if mark:
            assert writer.write(mark)
        message, done = writer.finish()
        assert done
        client.commit_write_session(SessionRequest(session.session_id), [message])
        result = client.create_read_session(TableBatchScanRequest(required_partitions=["pt=1"]))
        assert result.record_count == 15


def test_partitions_named_by_place_and_by_integers(client: Any) -> None:
    batch = rows(3).append_column("another", pa.array([7, 8, 7]))
    write(client, [batch], Compression.UNCOMPRESSED, overwrite=False)
    for partition, count in (("pt=7", 2), ("pt=8", 1)):
        session = client.create_read_session(TableBatchScanRequest(required_partitions=[partition]))
        assert session.record_count == count


def test_what_is_refused(client: Any) -> None:
    write(client, [rows(3)], Compression.UNCOMPRESSED, partition_spec="pt=1")
    small = TableBatchScanRequest()
    small.split_options.split_number = 1
    buckets = TableBatchScanRequest(split_options=SplitOptions.get_default_options(MODES.BUCKET))
    for request in (small, buckets):
        with pytest.raises(errors.InvalidArgument):
            client.create_read_session(request)
    session = client.create_read_session(TableBatchScanRequest())
    for kind, version in (("arrow", "v6"), ("", "v6"), ("arrow1", "")):
        given = DataFormat()
        given.type, given.version = kind, version
        with pytest.raises(errors.InvalidArgument):
            read(client, ReadRowsRequest(session.session_id, data_format=given))


def test_sessions_that_are_not_there(client: Any) -> None:
    request = SessionRequest("nope")
    for call in (
        lambda: client.get_read_session(request),
        lambda: client.get_write_session(request),
        lambda: client.commit_write_session(request, []),
        lambda: read(client, ReadRowsRequest("nope")),
    ):
        with pytest.raises(errors.NoSuchObject):
            call()
